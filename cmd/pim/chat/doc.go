// Package chat is a chat on the SDK: what a typed line asks for, and a terminal
// client that fills the screen.
//
// The client is a pure Model: it is told what happened (keys, events of the SDK,
// answers to its wishes) and returns Effects, its wishes; View draws it. Driver
// carries the effects out on a Backend, and Run puts a terminal around it.
//
//	line.go     typed lines: texts and commands
//	mention.go  whom a text mentions
//	effect.go   what the SDK is asked to do
//	model.go    the state, and what events change; outbox.go, names.go parts of it
//	keys.go     keys; aim.go the message that they are about
//	editor.go   the line being typed
//	reads.go    whether the user reads the open conversation
//	receipts.go what others have read; live.go what they do at the moment
//	view.go     the screen; pane.go its messages; wrap.go, text.go their lines
//	driver.go   effects carried out
//	sdk.go      the SDK as a Backend; store.go its local store
//	screen.go   the terminal
package chat
