package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Each engine is broken on purpose in one way. Within at most 6000 schedules it is
// found out by what it breaks, in a schedule that a sound engine passes.
func TestBrokenEnginesAreFoundOut(t *testing.T) {
	all := []struct {
		name  string
		spoil func(*Device)
		found string // a part of what is reported
	}{
		{"the outbox is not persisted", func(d *Device) { d.breaks.ForgetOutbox = true }, "lost: message"},
		{"a new ID on resend", newIDOnResend, "I3 "},
		{"shown in the order of arrival", func(d *Device) { d.breaks.Show = byArrival }, "I4 "},
		{"no gap pull", noGapPull, "not settled"},
		{"no acknowledgements", noAcks, "has acknowledged"},
		{"a new local time on resend", newTimeOnResend, "and before that with"},
		{"a bot that confirms before it answers", func(d *Device) { brokenBot(d).confirmsFirst = true }, "missed: "},
		{"a bot that takes what is handed over, once", func(d *Device) { brokenBot(d).forgets = true }, "has confirmed"},
		{"a server that went back is not noticed", sameServer, "I3 "},
		{"what such a server has lost is not sent again", func(d *Device) { d.breaks.ForgetFormer = true }, "lost: message"},
		{"unread as the entries tell it", noMarks, "unread: "},
		{"mentions as the entries tell them", noMentions, "mentions "},
		{"mentions that are counted after one's own message", ownMentions, "mentions "},
		{"gaps whose counts are not told", noStandings, "unread"},
		{"unread by counting entries", func(d *Device) { d.breaks.Unread = byEntries }, "unread "},
		{"an own message counts as unread", func(d *Device) { d.breaks.Unread = ownCounts }, "unread "},
		{"folds by arrival", func(d *Device) { d.disk.merge = foldByArrival }, "fold "},
		{"an edit loses to an older one", func(d *Device) { d.disk.merge = oldestEdit }, "fold "},
		{"the folds of pages are ignored", noFolds, "fold "},
		{"what was recalled stays on the disk", func(d *Device) { d.disk.keeps = true }, "recall "},
		{"what was erased stays on the disk", func(d *Device) { d.disk.keepsErased = true }, "erase "},
		{"what was trimmed stays on the disk", func(d *Device) { d.disk.keepsTrimmed = true }, "trim "},
		{"a server that tells no front", noFronts, "has not acknowledged that"},
		{"a front that is acknowledged and not heeded", unheededFronts, "was not told that the log begins there"},
		{"a list that counts from the front", countsFromFront, "unread "},
		{"a clock too coarse for local times that grow", coarseTimes, "with the local time"},
		{"times to come back that are not heeded", deafToTimes, "before the time that it was told"},
		{"an address that is not known for one of the same server", otherName, "before the time that it was told"},
	}
	for _, broken := range all[:seeds.Many(len(all))] {
		t.Run(broken.name, func(t *testing.T) {
			const first, most = 1_000_000, 6000
			for seed := uint64(first); seed < first+most; seed++ {
				found, _ := play(seed, broken.spoil)
				if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, broken.found) }) {
					continue
				}
				if sound, _ := play(seed, nil); len(sound) > 0 {
					t.Fatalf("seed %d: a sound engine breaks %q", seed, sound)
				}
				t.Logf("found out by seed %d: %s", seed, found[0])
				return
			}
			t.Errorf("not found out in %d schedules", most)
		})
	}
}

// foldByArrival takes what comes last.
func foldByArrival(f, with *pim.Fold) {
	f.Recall, f.Pin, f.Edit.Seq = pim.Mark{}, pim.Mark{}, min(f.Edit.Seq, 1)
	f.Merge(with)
}

// oldestEdit keeps the first of several edits.
func oldestEdit(f, with *pim.Fold) {
	first := f.Edit
	f.Merge(with)
	if first.Seq != 0 && !f.Recalled() {
		f.Edit = first
	}
}

// noFolds makes a device that takes no folds from pages.
func noFolds(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMPullResp); ok {
			resp.Folds = nil
		}
		return m
	}
}

// noMarks makes a device that learns from entries alone what its user has written.
func noMarks(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			for _, s := range resp.Conversations {
				s.Own, s.OwnCount = 0, 0
			}
		}
		if resp, ok := m.(*wirepb.PIMPullResp); ok && resp.Standing != nil {
			resp.Standing.Own, resp.Standing.OwnCount = 0, 0
		}
		return m
	}
}

// noMentions makes a device that learns from entries alone what mentions its user.
func noMentions(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			for _, s := range resp.Conversations {
				s.Named, s.OwnAll, s.AllCount = 0, 0, 0
			}
		}
		return m
	}
}

// noStandings makes a device that is told what its user has written, and what mentions its user, by the
// list and by entries alone.
func noStandings(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMPullResp); ok {
			resp.Standing = nil
		}
		return m
	}
}

// countsFromFront makes a device whose list counts only what was not trimmed.
func countsFromFront(d *Device) {
	d.breaks.Answer = func(d *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			for _, s := range resp.Conversations {
				if s.Front > 1 {
					s.Count -= d.w.Server.Log(pim.ConversationID(s.Conversation))[s.Front-2].Count
				}
			}
		}
		return m
	}
}

// noFronts makes a device whose server tells fronts only with what the list names, and in pulls.
func noFronts(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			resp.Fronts = nil
		}
		return m
	}
}

// unheededFronts makes a device that acknowledges the fronts of the list and does nothing else
// about them.
func unheededFronts(d *Device) {
	d.breaks.Answer = func(d *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok && len(resp.Fronts) > 0 {
			for _, c := range d.conns {
				if c.attempt == d.using {
					c.session.Handle(&wirepb.PIMPushAck{Fronts: resp.Fronts})
				}
			}
			resp.Fronts = nil
		}
		return m
	}
}

// ownMentions makes a device whose user's own messages for all are mentions.
func ownMentions(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if ack, ok := m.(*wirepb.PIMSendAck); ok && ack.AllCount > 0 {
			ack.AllCount--
		}
		return m
	}
}

// brokenBot makes d a bot, if it is not one yet, and returns how the bot is broken.
func brokenBot(d *Device) *botBreakage {
	if d.bot == nil {
		d.makeBot()
	}
	return &d.bot.broken
}

// newIDOnResend makes a device that forgets what a message was called: each repetition
// has an ID of its own. The device translates the IDs in answers back, or the engine
// would notice.
func newIDOnResend(d *Device) {
	names := make(map[string][]byte) // by the ID of a repetition: the first ID of the message
	tries := make(map[string]int)
	d.breaks.Frame = func(d *Device, m wire.Message) wire.Message {
		req, ok := m.(*wirepb.PIMSendReq)
		if !ok {
			return m
		}
		if tries[string(req.ClientMessageId)]++; tries[string(req.ClientMessageId)] == 1 {
			return m
		}
		id := d.w.id()
		names[string(id[:])] = req.ClientMessageId
		again := &wirepb.PIMSendReq{
			Conversation: req.Conversation, ClientMessageId: id[:], LocalMs: req.LocalMs - int64(1000*len(names)), Attempt: req.Attempt,
			Payload: req.Payload, Kind: req.Kind, Members: req.Members,
		}
		return again
	}
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		switch m := m.(type) {
		case *wirepb.PIMSendAck:
			if first := names[string(m.ClientMessageId)]; first != nil {
				m.ClientMessageId = first
			}
		case *wirepb.PIMError:
			if first := names[string(m.ClientMessageId)]; first != nil {
				m.ClientMessageId = first
			}
		}
		return m
	}
}

// sameServer removes from Welcome the signs that the server went back.
func sameServer(d *Device) {
	d.breaks.Blind = true
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if w, ok := m.(*wirepb.Welcome); ok {
			w.Store, w.AckSerial = "", 0
		}
		return m
	}
}

// byArrival shows entries as they came.
func byArrival(d *Device, c pim.ConversationID) []pim.Seq { return d.arrived[c] }

// noGapPull swallows every pull.
func noGapPull(d *Device) {
	d.breaks.Frame = func(_ *Device, m wire.Message) wire.Message {
		if _, ok := m.(*wirepb.PIMPullReq); ok {
			return nil
		}
		return m
	}
}

// noAcks swallows every acknowledgement of pushes.
func noAcks(d *Device) {
	d.breaks.Frame = func(_ *Device, m wire.Message) wire.Message {
		if _, ok := m.(*wirepb.PIMPushAck); ok {
			return nil
		}
		return m
	}
}

// newTimeOnResend gives each repetition a local time of its own.
func newTimeOnResend(d *Device) {
	d.breaks.Frame = func(_ *Device, m wire.Message) wire.Message {
		if req, ok := m.(*wirepb.PIMSendReq); ok {
			req.LocalMs += int64(req.Attempt) - 1
		}
		return m
	}
}

// coarseTimes rounds the local times of messages down to the minute.
func coarseTimes(d *Device) {
	d.breaks.Frame = func(_ *Device, m wire.Message) wire.Message {
		if req, ok := m.(*wirepb.PIMSendReq); ok {
			req.LocalMs -= req.LocalMs % time.Minute.Milliseconds()
		}
		return m
	}
}

// Devices that lose their server come back spread over the window that the server gave,
// and after that by their own backoff. Devices whose engines wait for a fixed time come
// back all at once.
func TestAvalanche(t *testing.T) {
	const crowd, window = 300, 10 * time.Second
	peak := func(random func(*Device) func() float64) int {
		w := NewWorld(7)
		w.Server.Limits.HeartbeatMs = 600_000
		for i := range crowd {
			d := w.NewDevice("alice", pim.DeviceID("device"+string(rune('a'+i/26))+string(rune('a'+i%26))))
			d.net = Net{Delay: 50 * time.Millisecond}
			d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
				if welcome, ok := m.(*wirepb.Welcome); ok {
					welcome.ReconnectWindowMs = uint32(window / time.Millisecond)
				}
				return m
			}
			if random != nil {
				d.config.Random = random(d)
			}
			d.Start()
		}
		w.Run(w.now + time.Minute)
		w.dials = nil
		w.StopServer(20 * time.Second)
		w.Run(w.now + time.Minute)
		for _, d := range w.devices {
			if d.engine.State() != engine.Connected {
				t.Fatalf("%s is %s after a minute", d.ID, d.engine.State())
			}
		}
		return most(w.dials, 100*time.Millisecond)
	}
	sound, fixed := peak(nil), peak(func(*Device) func() float64 { return func() float64 { return 0.5 } })
	t.Logf("attempts to connect within 100 ms, at the most: %d, with a fixed backoff %d, of %d devices", sound, fixed, crowd)
	if bound := crowd / 5; sound > bound {
		t.Errorf("%d attempts within 100 ms, at most %d are allowed", sound, bound)
	}
	if fixed < crowd/2 {
		t.Errorf("a fixed backoff makes %d attempts within 100 ms: it is not found out", fixed)
	}
}

// most returns how many of times lie within any window of length d.
func most(times []time.Duration, d time.Duration) (n int) {
	slices.Sort(times)
	from := 0
	for to := range times {
		for times[to]-times[from] >= d {
			from++
		}
		n = max(n, to-from+1)
	}
	return n
}

// deafToTimes makes a device that is not told when to come back.
func deafToTimes(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if e, ok := m.(*wirepb.PIMError); ok && len(e.ClientMessageId) == 0 && e.RequestId == 0 {
			e.RetryAfterMs = 0
		}
		return m
	}
}

// otherName makes a device that has two names for one gateway.
func otherName(d *Device) {
	d.config.Servers = []string{"wss://one", "wss://eins"}
	d.w.names = map[string]string{"eins": "one"}
}
