package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
)

// Reading is what the readers of a replay did, and what was compared with the model. The JSON
// names are stable.
type Reading struct {
	Seed    uint64 `json:"seed"`
	Readers int    `json:"readers"`
	// What they did, as far as it was acknowledged.
	Reads     int `json:"reads"`
	Unreads   int `json:"unreads"` // conversations marked as unread
	Edits     int `json:"edits"`
	Recalls   int `json:"recalls"`
	Erases    int `json:"erases"`    // of all that a user had written before
	Reactions int `json:"reactions"` // taken back, too
	Switches  int `json:"switches"`  // of receipts, off and on
	Refused   int `json:"refused"`   // acts that came too late: the message was recalled or erased, or the user had left
	Offline   int `json:"offline"`   // how often a device went offline
	// What was compared.
	Quiets    int `json:"quiets"`    // moments of quiet, the end included
	Counts    int `json:"counts"`    // unread counts, mentions and marks of a device
	Mentions  int `json:"mentions"`  // unread mentions among them
	Receipts  int `json:"receipts"`  // messages of which a reader was told by how many they are read
	Named     int `json:"named"`     // messages of which a reader was told by whom
	Displayed int `json:"displayed"` // messages on a device
	Different int `json:"different"` // differences at the first moment of quiet that had any
}

const (
	actEvery    = 3 // steps for each act, in the mean
	quietEvery  = 500
	screen      = 50          // messages whose receipts are asked for at once
	longAway    = time.Second // a device is offline for at most this long
	fewMessages = 60          // of the newest, among which a reader looks
)

// readers are the members who read, and all acts that are no step of the log. The zero value, but
// for run, has none.
type readers struct {
	run    *run
	users  []pim.UserID
	second map[pim.UserID]*member // their second devices
	rand   *rand.Rand             // owned by who plays
	acts   sync.WaitGroup         // under way

	// Guarded by mu.
	mu     sync.Mutex
	failed error // of an act
	reads  []userRead
	away   map[*member]bool // devices that are offline
	hidden map[pim.UserID]bool
	did    Reading
}

func newReaders(r *run) *readers {
	rs := &readers{
		run: r, second: make(map[pim.UserID]*member), away: make(map[*member]bool), hidden: make(map[pim.UserID]bool),
		rand: rand.New(rand.NewPCG(r.config.Seed, 0)), did: Reading{Seed: r.config.Seed, Readers: r.config.Readers},
	}
	users := slices.Clone(r.users()[1:]) // without the owner
	rs.rand.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	rs.users = users[:r.config.Readers]
	rs.mention(r.script.steps)
	return rs
}

// mention lets some messages mention a reader, or all.
func (rs *readers) mention(steps []step) {
	if len(rs.users) == 0 {
		return
	}
	for i := range steps {
		if s := &steps[i]; s.kind == pim.EntryMessage {
			switch rs.rand.IntN(20) {
			case 0, 1, 2:
				s.mention = rs.users[rs.rand.IntN(len(rs.users))]
			case 3:
				s.all = true
			case 4:
				s.mention, s.all = rs.users[rs.rand.IntN(len(rs.users))], true
			}
		}
	}
}

func (rs *readers) is(u pim.UserID) bool { return slices.Contains(rs.users, u) }

// report returns where the readers tell what they did, nil if there are none.
func (rs *readers) report() *Reading {
	if len(rs.users) == 0 {
		return nil
	}
	return &rs.did
}

// quiets returns random moments of quiet, as the numbers of the steps before which they are.
func (rs *readers) quiets() (moments []int) {
	n := len(rs.run.script.steps)
	if len(rs.users) == 0 || n < 2 {
		return nil
	}
	for range 1 + n/quietEvery {
		moments = append(moments, 1+rs.rand.IntN(n-1))
	}
	slices.Sort(moments)
	return slices.Compact(moments)
}

// act lets a reader do something now and then. It does not wait for the acknowledgement.
func (rs *readers) act(ctx context.Context) error {
	if len(rs.users) == 0 || rs.rand.IntN(actEvery) != 0 {
		return nil
	}
	rs.mu.Lock()
	err := rs.failed
	rs.mu.Unlock()
	if err != nil {
		return err
	}
	u := rs.users[rs.rand.IntN(len(rs.users))]
	switch n := rs.rand.IntN(100); {
	case n < 40:
		return rs.read(ctx, rs.device(u))
	case n < 48:
		return rs.markUnread(ctx, rs.device(u))
	case n < 58:
		return rs.goAway(ctx, rs.device(u))
	case n < 78:
		return rs.refer(ctx, step{kind: pim.EntryReaction, user: u, text: []string{"👍", "🎉", "+1", "?"}[rs.rand.IntN(4)], removed: rs.rand.IntN(4) == 0})
	case n < 88:
		return rs.refer(ctx, step{kind: pim.EntryEdit})
	case n < 97:
		return rs.refer(ctx, step{kind: pim.EntryRecall})
	default:
		return rs.refer(ctx, step{kind: pim.EntryErase})
	}
}

// device returns one of u's devices.
func (rs *readers) device(u pim.UserID) *member {
	if m := rs.second[u]; m != nil && rs.rand.IntN(2) == 0 {
		return m
	}
	return rs.run.members[u]
}

// read reads up to a random one of the messages that the device has.
func (rs *readers) read(ctx context.Context, m *member) error {
	entries, err := m.client.Messages(ctx, rs.run.group, fewMessages)
	if err != nil || len(entries) == 0 {
		return err
	}
	e := entries[rs.rand.IntN(len(entries))]
	sending, err := m.client.MarkRead(ctx, &e)
	if err != nil {
		return err
	}
	rs.wait(ctx, m, sending, func(sent client.Sent) {
		if sent.Seq != 0 { // else it was read already
			rs.did.Reads++
			rs.reads = append(rs.reads, userRead{user: m.user, own: sent.Seq, position: position{e.Seq, sent.Server}})
		}
	})
	return nil
}

// readSome has some readers read, and waits until that is acknowledged. A log that is played as
// fast as possible is ahead of its readers, so of what they have read meanwhile nothing may be left
// above their own last messages.
func (rs *readers) readSome(ctx context.Context) error {
	for _, u := range rs.users {
		if rs.rand.IntN(2) == 0 {
			if err := rs.read(ctx, rs.device(u)); err != nil {
				return err
			}
		}
	}
	return rs.rest(ctx)
}

// switchSome has a reader give receipts no longer, or again, and waits until that is acknowledged. No
// act may be under way.
func (rs *readers) switchSome(ctx context.Context) error {
	if len(rs.users) == 0 || rs.rand.IntN(2) == 0 {
		return nil
	}
	u := rs.users[rs.rand.IntN(len(rs.users))]
	m, shows := rs.device(u), rs.hidden[u]
	sending, err := m.client.SetReceipts(ctx, shows)
	if err != nil {
		return err
	}
	rs.wait(ctx, m, sending, func(sent client.Sent) {
		rs.did.Switches++
		rs.hidden[u] = !shows
		rs.reads = append(rs.reads, userRead{user: u, own: sent.Seq, hides: !shows, shows: shows})
	})
	return rs.rest(ctx)
}

func (rs *readers) markUnread(ctx context.Context, m *member) error {
	sending, err := m.client.MarkUnread(ctx, rs.run.group)
	if err != nil {
		return err
	}
	rs.wait(ctx, m, sending, func(client.Sent) { rs.did.Unreads++ })
	return nil
}

// goAway takes the device offline for a while.
func (rs *readers) goAway(ctx context.Context, m *member) error {
	rs.mu.Lock()
	before := rs.away[m]
	rs.away[m] = true
	rs.mu.Unlock()
	if before {
		return nil
	}
	if err := m.client.SetOnline(false); err != nil {
		return err
	}
	d := rand.N(longAway)
	rs.acts.Go(func() {
		imtest.Pause(ctx, d)
		if err := m.client.SetOnline(true); err != nil {
			rs.fail(err)
		}
		rs.mu.Lock()
		defer rs.mu.Unlock()
		rs.away[m] = false
		rs.did.Offline++
	})
	return nil
}

// refer sends s, which refers to a random message. An edit, recall or erase is the sender's.
func (rs *readers) refer(ctx context.Context, s step) error {
	to, ok := rs.message()
	if !ok {
		return nil
	}
	s.refers = to.ack.Seq
	if s.kind != pim.EntryReaction {
		s.user = to.user
	}
	m := rs.device(s.user)
	var sending *client.Sending
	var err error
	switch s.kind {
	case pim.EntryReaction:
		sending, err = m.client.React(ctx, rs.run.group, s.refers, s.text, !s.removed)
	case pim.EntryEdit:
		s.text = fmt.Sprintf("%s (edited, %d)", to.text[:len(to.text)/2], rs.rand.IntN(1000))
		sending, err = m.client.Edit(ctx, rs.run.group, s.refers, []byte(s.text))
	case pim.EntryErase:
		sending, err = m.client.Erase(ctx, rs.run.group, s.refers)
	default:
		sending, err = m.client.Recall(ctx, rs.run.group, s.refers)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", s.kind, s.user, err)
	}
	payload, reaction := "", ""
	switch s.kind {
	case pim.EntryEdit:
		payload = s.text
	case pim.EntryReaction:
		reaction = s.text
	}
	rs.run.sending(sending.ID(), imtest.Send{
		Conversation: rs.run.group, Sender: s.user, Device: m.device, Kind: s.kind, Refers: s.refers, Reaction: reaction, Removed: s.removed,
	}, payload)
	outcome := func(ctx context.Context) (client.Sent, error) {
		sent, err := sending.Wait(ctx)
		if err == nil && sent.Seq == 0 { // an erase by a user who had left meanwhile
			return rs.run.standsAt(ctx, sending.ID())
		}
		return sent, err
	}
	rs.waitFor(ctx, m, sending.ID(), outcome, func(sent client.Sent) {
		rs.run.acked(s.user, m.device, placed{s, sending.ID(), sent})
		switch s.kind {
		case pim.EntryReaction:
			rs.did.Reactions++
		case pim.EntryEdit:
			rs.did.Edits++
		case pim.EntryErase:
			rs.did.Erases++
		default:
			rs.did.Recalls++
		}
	})
	return nil
}

// message returns a random message that was acknowledged; every other time one of the last.
func (rs *readers) message() (m placed, ok bool) {
	rs.run.mu.Lock()
	defer rs.run.mu.Unlock()
	steps := rs.run.steps
	if rs.rand.IntN(2) == 0 {
		steps = steps[max(0, len(steps)-fewMessages):]
	}
	for range 10 {
		if m = steps[rs.rand.IntN(len(steps))]; m.kind == pim.EntryMessage {
			return m, true
		}
	}
	return m, false
}

// wait waits for the outcome of an act of m, in the background. With mu held it calls acked if the
// act was acknowledged. An act may be refused because another one came before it.
func (rs *readers) wait(ctx context.Context, m *member, sending *client.Sending, acked func(client.Sent)) {
	rs.waitFor(ctx, m, sending.ID(), sending.Wait, acked)
}

// waitFor is wait for the act with the client message ID id, which ends with outcome.
func (rs *readers) waitFor(ctx context.Context, m *member, id pim.ClientMessageID, outcome func(context.Context) (client.Sent, error), acked func(client.Sent)) {
	rs.acts.Go(func() {
		sent, err := outcome(ctx)
		if err == nil {
			rs.mu.Lock()
			defer rs.mu.Unlock()
			acked(sent)
			return
		}
		switch pim.KindOf(err) {
		case pim.KindNotFound, pim.KindNotMember, pim.KindForbidden:
			rs.run.history.Refused(m.user, id)
			rs.mu.Lock()
			defer rs.mu.Unlock()
			rs.did.Refused++
		default:
			rs.fail(fmt.Errorf("%s: %w", m.user, err))
		}
	})
}

func (rs *readers) fail(err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.failed == nil {
		rs.failed = err
	}
}

// rest waits until no act is under way and all devices are online.
func (rs *readers) rest(ctx context.Context) error {
	rs.acts.Wait()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return rs.failed
}
