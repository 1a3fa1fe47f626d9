package client

import "github.com/pim-im/pim/client/engine"

// Event is what Client.Events hands over: one of the events below.
type Event = engine.Event

// The events; see package engine for what each promises.
type (
	EntryEvent    = engine.EntryEvent
	ChangedEvent  = engine.ChangedEvent
	ErasedEvent   = engine.ErasedEvent
	SendEvent     = engine.SendEvent
	SettingEvent  = engine.SettingEvent
	ReceiptEvent  = engine.ReceiptEvent
	TypingEvent   = engine.TypingEvent
	PresenceEvent = engine.PresenceEvent
	LookEvent     = engine.LookEvent
	ListEvent     = engine.ListEvent
	ReadEvent     = engine.ReadEvent
	RefusedEvent  = engine.RefusedEvent
	RewoundEvent  = engine.RewoundEvent
	TrimmedEvent  = engine.TrimmedEvent
	StateEvent    = engine.StateEvent
)

// SendState is where a message stands on its way to the server.
type SendState = engine.SendState

// The states of a message.
const (
	Queued     = engine.Queued
	InFlight   = engine.InFlight // transmitted
	Delayed    = engine.Delayed
	Delivered  = engine.Delivered
	Failed     = engine.Failed
	Superseded = engine.Superseded
	Discarded  = engine.Discarded
)

// Sent is the server's answer to a message.
type Sent = engine.Sent

// Pending is a message in the outbox and where it stands.
type Pending = engine.Pending

// Page is one page of a conversation, straight from the server.
type Page = engine.Page

// State is what the connection is doing.
type State = engine.State

// The states of a connection.
const (
	Connecting = engine.Connecting // dialling, or waiting for the server's Welcome
	Connected  = engine.Connected
	Waiting    = engine.Waiting // for the next attempt to connect
	Stopped    = engine.Stopped // until Client.Reconnect
	Offline    = engine.Offline // the app wants no connection
)
