package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/conformance"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	chat    = pim.ConversationID("d:alice:bob")
	mobile  = 60 * time.Millisecond
	second  = time.Second
	minute  = time.Minute
	folder  = "../../client/testdata/transcripts"
	maxFile = 100 << 10 // bytes of one transcript
)

// stage is the world of a scenario: alice's phone, which is recorded, and bob's.
type stage struct {
	*World
	t          *testing.T
	alice, bob *Device
	start      time.Duration
}

func newStage(t *testing.T) *stage {
	s := &stage{World: NewWorld(1), t: t}
	s.start = s.now
	s.alice, s.bob = s.NewDevice("alice", "phone"), s.NewDevice("bob", "phone")
	s.alice.recorder = &recorder{}
	for _, d := range s.devices {
		d.net = Net{Name: "wifi/home", Delay: 20 * time.Millisecond}
		d.Start()
	}
	s.Run(s.now + 2*second)
	return s
}

// at makes do happen at a time counted from the beginning of the stage.
func (s *stage) at(when time.Duration, do func()) { s.At(s.start+when, do) }

// until lets time pass until a time counted from the beginning of the stage.
func (s *stage) until(when time.Duration) { s.Run(s.start + when) }

// sends lets d send texts, one every so often.
func (s *stage) sends(d *Device, from, every time.Duration, texts ...string) {
	for i, text := range texts {
		s.at(from+time.Duration(i)*every, func() { d.Send(chat, text) })
	}
}

// texts returns the conversation as the device shows it.
func texts(d *Device) (list []string) {
	for _, e := range d.disk.shown(chat) {
		list = append(list, string(e.Payload))
	}
	return list
}

func (s *stage) bothShow(want ...string) {
	s.t.Helper()
	for _, d := range []*Device{s.alice, s.bob} {
		if got := texts(d); !slices.Equal(got, want) {
			s.t.Errorf("%s shows %q, want %q", d.User, got, want)
		}
	}
}

// scenarios are the stories. Every SDK must give their transcripts.
var scenarios = []struct {
	name  string
	story string
	play  func(*stage)
}{
	{"lift", "Alice writes in a lift: the network is gone for 40 s without anybody saying so. What she wrote before and inside arrives once, in the order of her writing; between two people the server's order counts.", func(s *stage) {
		s.sends(s.alice, 5*second, 4*second, "before", "in the lift", "still in the lift")
		s.at(8*second, func() { s.alice.Change(Net{Name: "wifi/home", Delay: mobile, Silent: true, Deaf: true}) })
		s.at(48*second, func() { s.alice.Change(Net{Name: "wifi/home", Delay: mobile}) })
		s.sends(s.bob, 20*second, second, "where are you?")
		s.until(90 * second)
		s.bothShow("before", "where are you?", "in the lift", "still in the lift")
	}},
	{"subway", "An hour on the subway: two minutes of tunnel, one minute of station, again and again. The system says when there is no network; she writes wherever she is.", func(s *stage) {
		var want []string
		for i := range 20 {
			from := time.Duration(i) * 3 * minute
			s.at(from+minute, func() { s.alice.Cut(); s.alice.Step(engine.Online{On: false}) })
			s.at(from+3*minute, func() {
				s.alice.Change(Net{Name: "mobile", Delay: mobile})
				s.alice.Step(engine.Online{On: true})
			})
			if i%4 == 0 {
				want = append(want, fmt.Sprint("tunnel ", i), fmt.Sprint("station ", i))
				s.sends(s.alice, from+2*minute, second, fmt.Sprint("tunnel ", i))
				s.sends(s.alice, from+3*minute+40*second, second, fmt.Sprint("station ", i))
			}
		}
		s.until(62 * minute)
		s.bothShow(want...)
	}},
	{"train-tunnels", "A train: 20 s of tunnel in which frames vanish, 25 s of slow, lossy network. Messages stall and are not lost.", func(s *stage) {
		train := Net{Name: "train", Delay: 300 * time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.1, Rate: 4000}
		tunnel := train
		tunnel.Silent, tunnel.Deaf = true, true
		for i := range 4 {
			from := time.Duration(i) * 45 * second
			s.at(from+3*second, func() { s.alice.Change(train) })
			s.at(from+28*second, func() { s.alice.Change(tunnel) })
			s.sends(s.alice, from+20*second, 12*second, fmt.Sprint("lossy ", i), fmt.Sprint("tunnel ", i))
		}
		s.at(180*second, func() { s.alice.Change(train) })
		s.until(270 * second)
		s.bothShow("lossy 0", "tunnel 0", "lossy 1", "tunnel 1", "lossy 2", "tunnel 2", "lossy 3", "tunnel 3")
	}},
	{"wifi-to-mobile", "She leaves the house: the address changes in the middle of a message, and the system says so. The connection is made anew at once.", func(s *stage) {
		s.sends(s.alice, 5*second, 500*time.Millisecond, "on the sofa", "on the doorstep", "in the street")
		s.at(5400*time.Millisecond, func() {
			s.alice.Freeze()
			s.alice.Change(Net{Name: "mobile/262-01", Delay: mobile})
			s.alice.Step(engine.NetworkChanged{Name: "mobile/262-01"})
		})
		s.until(12 * second)
		s.bothShow("on the sofa", "on the doorstep", "in the street")
	}},
	{"captive-portal", "A hotel's network takes every connection and answers none, until she has signed in two minutes later.", func(s *stage) {
		s.at(4*second, func() { s.alice.Change(Net{Name: "wifi/hotel", Portal: true}); s.alice.Cut() })
		s.sends(s.alice, 6*second, second, "from the hotel")
		s.at(124*second, func() {
			s.alice.Change(Net{Name: "wifi/hotel", Delay: 30 * time.Millisecond})
			s.alice.Step(engine.NetworkChanged{Name: "wifi/hotel"})
		})
		s.until(135 * second)
		s.bothShow("from the hotel")
	}},
	{"airplane-mode-commands", "In airplane mode she deletes a contact, mutes a conversation and reads on, three marks in a row; meanwhile her laptop gives the contact a new name. When she is back all devices agree: deleted, muted, read.", func(s *stage) {
		laptop := s.NewDevice("alice", "laptop")
		laptop.Start()
		s.sends(s.bob, 3*second, 100*time.Millisecond, "one", "two", "three")
		s.at(5*second, func() {
			laptop.Do(pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob")})
		})
		s.at(8*second, func() { s.alice.Step(engine.Online{On: false}) })
		s.at(10*second, func() {
			s.alice.Do(pim.Command{Kind: pim.CommandContact, Subject: "bob", Removed: true})
			s.alice.Do(pim.Command{Kind: pim.CommandMute, Subject: string(chat)})
			for seq := pim.Seq(1); seq <= 3; seq++ {
				s.alice.Do(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: seq, Count: uint64(seq)})
			}
		})
		s.at(20*second, func() {
			laptop.Do(pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bobby")})
		})
		s.at(60*second, func() { s.alice.Step(engine.Online{On: true}) })
		s.until(70 * second)
		for _, d := range []*Device{s.alice, laptop} {
			contact, mute, read := d.disk.settings["contact/bob"], d.disk.settings["mute/d:alice:bob"], d.disk.settings["read/d:alice:bob"]
			if !contact.Removed || !mute.InForce(1) || read.Seq != 3 {
				s.t.Errorf("%s holds %+v, %+v, %+v", d.ID, contact, mute, read)
			}
		}
		if n := len(s.Server.Log(pim.Own("alice"))); n != 5 {
			s.t.Errorf("%d commands were sent, want 5: of three marks one", n)
		}
	}},
	{"killed-while-sending", "The system kills the app between storing a message and transmitting it, and again between transmitting one and hearing of it. After the restart both go on, and arrive once.", func(s *stage) {
		s.at(5*second, func() { s.alice.KillAfter(2); s.alice.Send(chat, "stored, not transmitted") })
		s.at(8*second, s.alice.Start)
		s.at(10*second, func() { s.alice.Send(chat, "transmitted, not heard of"); s.alice.Kill() })
		s.at(13*second, s.alice.Start)
		s.until(20 * second)
		s.bothShow("stored, not transmitted", "transmitted, not heard of")
	}},
	{"killed-for-days", "The network swallows a message, the app is killed, and she opens it three days later. The message has failed, as it would have after 180 s; she sends it again, and it stands where she does so. What was written without a network goes out by itself.", func(s *stage) {
		var id pim.ClientMessageID
		s.at(5*second, func() { s.alice.Change(Net{Name: "wifi/home", Delay: mobile, Silent: true}) })
		s.at(6*second, func() { id = s.alice.Send(chat, "swallowed") })
		s.at(8*second, func() { s.alice.Step(engine.Online{On: false}); s.alice.Send(chat, "not transmitted") })
		s.at(9*second, s.alice.Kill)
		s.sends(s.bob, 10*second, second, "are you there?")
		s.at(72*time.Hour, func() { s.alice.Change(Net{Name: "wifi/home", Delay: mobile}); s.alice.Start() })
		s.until(72*time.Hour + 5*second)
		s.bothShow("are you there?", "not transmitted")
		if why := s.alice.failed[id]; why == nil || why.Kind != pim.KindTimeout {
			s.t.Errorf("the message that was swallowed: %v", why)
		}
		s.at(72*time.Hour+10*second, func() { delete(s.alice.locals, id); s.alice.Step(engine.Resend{ID: id}) })
		s.until(72*time.Hour + 20*second)
		s.bothShow("are you there?", "not transmitted", "swallowed")
	}},
	{"killed-bot", "Alice's phone is a bot, which confirms each entry together with its answer. It is killed when a question is stored and not handed over, and again before its confirmation is stored: the question comes again from the store, and is answered once.", func(s *stage) {
		s.alice.Kill()
		s.alice.makeBot()
		s.alice.Start()
		s.sends(s.bob, 3*second, 3*second, "message 1", "message 2", "message 3")
		s.at(5*second, func() { s.alice.KillAfter(2) })
		s.at(8*second, s.alice.Start)
		s.at(8900*time.Millisecond, func() { s.alice.KillAfter(3) })
		s.at(12*second, s.alice.Start)
		s.until(20 * second)
		if n := len(s.Server.Log(chat)); n != 6 || len(s.alice.bot.answers) != 3 {
			s.t.Errorf("%d entries, want three questions and three answers", n)
		}
	}},
	{"restored-from-backup", "Her phone breaks, and its store comes back from last week's backup. The server notices, and the device gets what it acknowledged since once more.", func(s *stage) {
		s.sends(s.bob, 3*second, 100*time.Millisecond, "in the backup")
		s.at(6*second, s.alice.Backup)
		s.sends(s.bob, 8*second, 100*time.Millisecond, "after it", "and this")
		s.sends(s.alice, 9*second, 100*time.Millisecond, "mine, after it")
		s.at(15*second, s.alice.Restore)
		s.at(20*second, s.alice.Start)
		s.until(30 * second)
		s.bothShow("in the backup", "after it", "and this", "mine, after it")
	}},
	{"clock-30-minutes-wrong", "Her clock is half an hour fast, and in the middle of the talk she sets it right. What is shown is the order of the talk.", func(s *stage) {
		s.alice.Kill()
		s.alice.wall = 30 * 60_000
		s.alice.Start()
		s.sends(s.alice, 4*second, 4*second, "a1", "a2", "a3")
		s.sends(s.bob, 6*second, 4*second, "b1", "b2", "b3")
		s.at(9*second, func() { s.alice.Jump(-30 * minute) })
		s.until(20 * second)
		s.bothShow("a1", "b1", "a2", "b2", "a3", "b3")
		for _, e := range s.Server.Log(chat) {
			if off := e.Local - e.Server; off < -100 || off > 100 {
				s.t.Errorf("%s: local time is %d ms from the server's", e.Payload, off)
			}
		}
	}},
	{"two-devices", "She writes on the phone, goes on at the laptop, and looks at the phone again, which slept: both show the same.", func(s *stage) {
		laptop := s.NewDevice("alice", "laptop")
		laptop.Start()
		s.sends(s.alice, 4*second, second, "on the phone")
		s.at(6*second, func() { s.alice.Sleep(5 * minute) })
		s.sends(laptop, 60*second, second, "at the laptop", "still here")
		s.sends(s.bob, 62*second, second, "I see")
		s.until(320 * second)
		want := texts(laptop)
		if len(want) != 4 {
			s.t.Errorf("the laptop shows %q", want)
		}
		s.bothShow(want...)
	}},
	{"notification-taken-away", "Her phone shows a notification of what Bob writes. She reads it at the laptop, and the phone is told to take it away; then it is without a network while she answers at the laptop, and is told when it is back, by the list.", func(s *stage) {
		laptop := s.NewDevice("alice", "laptop")
		laptop.net.Delay = 20 * time.Millisecond
		laptop.Start()
		s.sends(s.bob, 4*second, second, "are you there?", "hello?")
		s.at(10*second, func() { laptop.Do(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 1, Count: 1}) })
		s.at(12*second, func() { laptop.Do(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 2, Count: 2}) })
		s.at(20*second, func() { s.alice.Step(engine.Online{On: false}) })
		s.sends(laptop, 22*second, second, "yes", "what is it?")
		s.sends(s.bob, 24*second, second, "never mind")
		s.at(26*second, func() { laptop.Do(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 5, Count: 5}) })
		s.at(40*second, func() { s.alice.Step(engine.Online{On: true}) })
		s.until(60 * second)
		s.bothShow("are you there?", "hello?", "yes", "what is it?", "never mind")
		if got := fmt.Sprint(s.alice.readElsewhere[chat]); got != "[1 2 5]" {
			s.t.Errorf("the phone is told of reads up to %s", got)
		}
	}},
	{"looked-at-is-read", "She has the conversation open and the app in front: what Bob writes is read as it comes, without a moment in which it is unread, and a burst of his costs two commands. In an aeroplane she opens what came before; it is read at once, the process dies, and the server is told after the landing.", func(s *stage) {
		s.looked = true
		s.at(3*second, func() {
			s.alice.Step(engine.Foreground{On: true})
			s.alice.Step(engine.Reading{Conversation: chat, On: true})
		})
		s.sends(s.bob, 4*second, 100*time.Millisecond, "one", "two", "three", "four")
		s.at(10*second, func() { s.alice.Step(engine.Reading{Conversation: chat}) })
		s.sends(s.bob, 12*second, second, "five", "six")
		s.at(15*second, func() { s.alice.Step(engine.Online{On: false}) })
		s.at(16*second, func() { s.alice.Step(engine.Reading{Conversation: chat, On: true}) })
		s.at(18*second, s.alice.Kill)
		s.at(19*second, s.alice.Start)
		s.until(30 * second)
		s.bothShow("one", "two", "three", "four", "five", "six")
		if read := s.Server.Settings("alice")[readEntity(chat)]; read.Seq != 6 || read.At != 3 {
			s.t.Errorf("the server has %+v", read)
		}
	}},
	{"token-refused", "The server's clock is a day ahead for a minute: it ends her connection, and refuses every token. She is told, writes on, and her app is asked for a token again and again, ever more rarely; when the clock is right all that she wrote goes out.", func(s *stage) {
		s.at(40*second, func() { s.RefuseTokens(60 * second) })
		s.sends(s.alice, 41*second, 20*second, "refused", "refused still")
		s.until(240 * second)
		s.bothShow("refused", "refused still")
	}},
	{"turned-away", "A data centre has died, and its clients come to the gateways that are left. The first turns her away for 20 s, the second, whose login she reaches, for at least 10 s: she leaves each alone for as long as it says, though the network changes and she presses Try again, and what she writes meanwhile goes out by the second, which is free first. A minute later that one is overloaded, too, and sends her away; the first takes her at once.", playTurnedAway},
	{"refused-for-now", "She writes to three people whom she does not know. The server refuses the first two, with a time: after the second one everything waits for a moment, and then the third goes first. That is refused, too, so all wait for longer; what she writes to bob meanwhile goes first after that, is accepted, and the others follow at their times, each in its order.", playRefused},
	{"signed-out", "Her session with the app has ended: the app has no token for the SDK, and says so. She signs in again, and the app tells the SDK to go on.", func(s *stage) {
		s.at(5*second, func() { s.alice.SignOut(true); s.alice.Cut() })
		s.sends(s.alice, 10*second, second, "while signed out")
		s.at(60*second, func() { s.alice.SignOut(false); s.alice.Step(engine.Reconnect{}) })
		s.until(70 * second)
		s.bothShow("while signed out")
	}},
	{"replaced-and-back", "She opens the app on the same device a second time: the first one stops, and says why to whatever wants a connection of it. What she writes there is kept, and goes out when she comes back to it.", func(s *stage) {
		s.at(180*second, s.alice.Replace) // no Hello of its own can be on its way any more
		s.sends(s.alice, 185*second, second, "kept")
		s.at(190*second, func() { s.alice.Step(engine.NetworkChanged{Name: "mobile"}) })
		s.at(191*second, func() { s.alice.Step(engine.Online{On: true}) })
		s.at(240*second, func() { s.alice.Step(engine.Reconnect{}) })
		s.until(250 * second)
		s.bothShow("kept")
	}},
	{"server-restored", "The server's disk is lost; it comes back with a backup of an hour ago, and says so. What it lacks the phone drops, takes anew what others bring back, and sends its own again.", func(s *stage) {
		s.sends(s.alice, 4*second, second, "one")
		s.sends(s.bob, 6*second, second, "two")
		s.at(10*second, func() { s.before = s.Server.Backup() })
		s.sends(s.alice, 12*second, second, "three", "four")
		s.sends(s.bob, 16*second, second, "five")
		s.at(20*second, func() { s.alice.Do(pim.Command{Kind: pim.CommandPin, Subject: string(chat)}) })
		s.at(60*minute, func() { s.GoBack(s.before, 5*second) })
		s.until(62 * minute)
		want := texts(s.alice)
		if sorted := slices.Sorted(slices.Values(want)); !slices.Equal(sorted, []string{"five", "four", "one", "three", "two"}) {
			s.t.Errorf("alice shows %q", want)
		}
		s.bothShow(want...)
		if pin := s.Server.Settings("alice")["pin/"+string(chat)]; !pin.InForce(0) {
			s.t.Errorf("the pin is %+v", pin)
		}
	}},
	{"trimmed-and-nothing-new", "She has all that was written, and nothing new comes. Retention removes the first two messages, and the next heartbeat tells her phone. It dies before it has acknowledged that, and is told again. Retention removes another one while the phone is off.", func(s *stage) {
		s.sends(s.bob, 3*second, second, "one", "two", "three", "four")
		s.at(10*second, func() { s.World.Trim(chat, 2) })
		s.alice.breaks.Frame = func(d *Device, m wire.Message) wire.Message {
			if ack, ok := m.(*wirepb.PIMPushAck); ok && len(ack.Fronts) > 0 && s.now < s.start+230*second {
				s.At(s.now, d.Kill)
				return nil
			}
			return m
		}
		s.until(230 * second)
		if got := texts(s.alice); !slices.Equal(got, []string{"three", "four"}) || s.alice.engine != nil || s.Server.Untold("alice", "phone", chat) != 3 {
			s.t.Errorf("alice shows %q, runs: %v, and the server has to tell the front %d", got, s.alice.engine != nil, s.Server.Untold("alice", "phone", chat))
		}
		s.alice.Start()
		s.until(240 * second)
		if front := s.Server.Untold("alice", "phone", chat); front != 0 {
			s.t.Errorf("the phone has not acknowledged the front %d", front)
		}
		s.alice.Kill()
		s.at(250*second, func() { s.World.Trim(chat, 3) })
		s.at(260*second, s.alice.Start)
		s.until(600 * second)
		s.bothShow("four")
		for _, d := range []*Device{s.alice, s.bob} {
			if front := s.Server.Untold(d.User, d.ID, chat); front != 0 {
				s.t.Errorf("%s/%s has not acknowledged the front %d", d.User, d.ID, front)
			}
		}
	}},
	{"trimmed-before-it-was-pulled", "Pushes are lost: two messages of bob that mention her, and between them one that she has written on her laptop. Retention removes all of that before her phone hears of it. The next message shows the gap, and the page that settles it tells what the list has to count: one message above her own, which mentions her, and the new one.", func(s *stage) {
		laptop := s.NewDevice("alice", "laptop")
		laptop.net = s.alice.net
		laptop.Start()
		mention := func(text string) {
			s.bob.queue(engine.Outgoing{Conversation: chat, Kind: pim.EntryMessage, Payload: []byte(text), Mentions: []pim.UserID{"alice"}})
		}
		s.sends(s.bob, 3*second, second, "one")
		s.at(5*second, func() { s.Server.DropPush = func() bool { return true } })
		s.at(6*second, func() { mention("alice?") })
		s.sends(laptop, 7*second, second, "yes")
		s.at(8*second, func() { mention("look, alice") })
		s.at(9*second, func() {
			s.Server.DropPush = nil
			s.World.Trim(chat, 4)
		})
		s.sends(s.bob, 10*second, second, "bye")
		s.until(12 * second) // no heartbeat has synced
		if l := s.alice.listed(chat); l != (imtest.Listed{Unread: 2, Mentions: 1}) {
			s.t.Errorf("alice lists %+v", l)
		}
		if got := texts(s.alice); !slices.Equal(got, []string{"bye"}) {
			s.t.Errorf("alice shows %q", got)
		}
		s.until(300 * second)
	}},
	{"pushed-and-trimmed", "Pushes of two messages of bob are slow. Retention removes both, and her phone hears of that first, when it connects again. Then the pushes come: she is shown nothing, nothing is stored, and the position moves on.", playPushedAndTrimmed},
	{"edited-before-its-page", "While she is away, bob writes more than a page, and edits a message that is not on the newest one. The edit comes first, and the message, when its page comes, is as it is now.", func(s *stage) {
		s.alice.Kill()
		s.alice.config.Page = 2
		s.alice.Start()
		s.at(4*second, func() { s.alice.Step(engine.Online{On: false}) })
		s.sends(s.bob, 5*second, 100*time.Millisecond, "one", "tow", "three", "four", "five")
		s.at(7*second, func() {
			s.bob.queue(engine.Outgoing{Conversation: chat, Kind: pim.EntryEdit, Refers: 2, Payload: []byte("two")})
		})
		s.at(10*second, func() { s.alice.Step(engine.Online{On: true}) })
		s.until(20 * second)
		e, f := s.alice.disk.entries[chat][2], s.alice.disk.folds[chat][2]
		if shown := imtest.Shown(&e, &f); shown.Payload != "two" || !shown.Edited {
			s.t.Errorf("alice shows %+v", shown)
		}
	}},
	{"recalled-after-a-read", "She reads what bob has written, and he takes the last message back. Its text leaves her phone, nothing is unread, and she stays where she was.", func(s *stage) {
		s.sends(s.bob, 3*second, 100*time.Millisecond, "one", "to the wrong person")
		s.at(5*second, func() {
			s.alice.Do(pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 2, Count: 2})
		})
		s.at(8*second, func() { s.bob.queue(engine.Outgoing{Conversation: chat, Kind: pim.EntryRecall, Refers: 2}) })
		s.until(20 * second)
		e, f := s.alice.disk.entries[chat][2], s.alice.disk.folds[chat][2]
		if shown := imtest.Shown(&e, &f); !shown.Recalled || !e.Erased {
			s.t.Errorf("alice shows %+v of %+v", shown, e)
		}
		if l := s.alice.listed(chat); l != (imtest.Listed{Read: 2}) {
			s.t.Errorf("alice lists %+v", l)
		}
	}},
	{"server-restart-mid-batch", "The server restarts while twenty messages are on their way. Those that were answered stay, the others are sent again, in order, once.", func(s *stage) {
		var want []string
		s.at(5*second, func() {
			for i := range 20 {
				s.alice.Send(chat, fmt.Sprint(i))
			}
		})
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
		}
		s.at(5*second+30*time.Millisecond, func() { s.StopServer(3 * second) })
		s.until(20 * second)
		s.bothShow(want...)
	}},
}

// Every story ends well, and its transcript is the golden one: PIM_UPDATE=1 writes
// them.
func TestScenarios(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			s := newStage(t)
			sc.play(s)
			recorded := s.alice.recorder.Transcript
			s.alice.recorder = nil
			if broken := s.Verify(); len(broken) > 0 {
				t.Errorf("%s\n%s", s.Story(), strings.Join(broken, "\n"))
			}
			recorded.Name, recorded.Story = sc.name, sc.story
			golden(t, &recorded)
			t.Logf("%s", s.figures())
		})
	}
}

func golden(t *testing.T, recorded *Transcript) {
	t.Helper()
	file := filepath.Join(folder, recorded.Name+".json")
	conformance.Ran(t, "client/testdata/transcripts/"+recorded.Name+".json", recorded.Name)
	data := format(t, recorded)
	if len(data) > maxFile {
		t.Errorf("the transcript has %d bytes, at most %d: shorten the story", len(data), maxFile)
	}
	if os.Getenv("PIM_UPDATE") != "" {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		var wanted Transcript
		if err := json.Unmarshal(want, &wanted); err != nil {
			t.Fatal(err)
		}
		if err := Replay(&wanted); err != nil {
			t.Errorf("the engine does otherwise than the golden transcript: %v", err)
		} else {
			t.Error("the story has changed, not what the engine makes of the one that is written: PIM_UPDATE=1 writes it anew")
		}
	}
}

// format writes a transcript with one step a line, so that it can be read, and
// compared.
func format(t *testing.T, tr *Transcript) []byte {
	t.Helper()
	line := func(x any) string {
		data, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"name\": %s,\n\"story\": %s,\n\"device\": %s,\n\"processes\": [\n", line(tr.Name), line(tr.Story), line(tr.Device))
	for i, p := range tr.Processes {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "{\"config\": %s,\n\"snapshot\": %s,\n\"random\": %s,\n\"steps\": [\n", line(p.Config), line(p.Snapshot), line(p.Random))
		for j, step := range p.Steps {
			if j > 0 {
				b.WriteString(",\n")
			}
			b.WriteString(line(step))
		}
		b.WriteString("\n]}")
	}
	b.WriteString("\n]}\n")
	return b.Bytes()
}

// A bare engine that is fed a transcript gives the same outputs: this is what an
// SDK in another language does.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != len(scenarios) {
		t.Fatalf("%d transcripts of %d scenarios, %v", len(files), len(scenarios), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tr Transcript
		if err := json.Unmarshal(data, &tr); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := Replay(&tr); err != nil {
			t.Error(err)
		}
		// Replay notices a transcript that was changed.
		last := &tr.Processes[len(tr.Processes)-1]
		last.Steps[len(last.Steps)-1].At += 1e9
		if Replay(&tr) == nil {
			t.Errorf("%s: a step that comes eleven days later gives the same", file)
		}
	}
}

// When an engine wants to be woken, and which random numbers it draws, is part of a
// transcript. Replay notices an engine that wants to be woken at another time, or draws
// more or fewer numbers.
func TestReplayNotices(t *testing.T) {
	for name, bend := range map[string]func(*Process){
		"another wake": func(p *Process) { p.Steps[len(p.Steps)/2].Wake++ },
		"no wake":      func(p *Process) { p.Steps[0].Wake = 0 },
		"a number that is not drawn": func(p *Process) {
			p.Random = append(p.Random, 0.5)
		},
		"a number too few": func(p *Process) { p.Random = p.Random[:len(p.Random)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(folder, "lift.json"))
			if err != nil {
				t.Fatal(err)
			}
			var tr Transcript
			if err := json.Unmarshal(data, &tr); err != nil {
				t.Fatal(err)
			}
			if err := Replay(&tr); err != nil {
				t.Fatal(err)
			}
			bend(&tr.Processes[0])
			if err := Replay(&tr); err == nil {
				t.Error("it is not noticed")
			}
		})
	}
}
