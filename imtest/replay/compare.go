package replay

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
)

// seen is what a device shows of the group.
type seen struct {
	unread    uint64
	mentions  uint64
	marked    bool
	displayed map[pim.Seq]imtest.Displayed
}

// compare compares what readers see with the model, at a moment of quiet. Receipts it asks for a
// screen and a message of each reader, at the end for all. After a moment that found a difference
// there is no further comparison: the first one tells most.
func (rs *readers) compare(ctx context.Context, f *findings, end bool) error {
	if len(rs.users) == 0 || rs.did.Different > 0 {
		return nil
	}
	rs.did.Quiets++
	rs.run.begins("comparing readers with the model", len(rs.users))
	m := newModel(rs.run.reference().log(rs.run.group), rs.reads)
	if err := rs.compareDevices(ctx, m, f); err != nil {
		return err
	}
	for _, u := range rs.users {
		if s := m.members[u]; s == nil || !s.present() || s.hidden {
			continue
		}
		if err := rs.compareReceipts(ctx, m, f, u, end); err != nil {
			return err
		}
		rs.run.stage.Load().done.Add(1)
	}
	return nil
}

// log returns the entries as the acknowledgements describe them.
func (ref *reference) log(group pim.ConversationID) (log []pim.Entry) {
	for i := range ref.steps {
		s := &ref.steps[i]
		e := pim.Entry{Conversation: group, Seq: s.ack.Seq, Kind: s.kind, Sender: s.user, Server: s.ack.Server, Refers: s.refers, Removed: s.removed}
		switch s.kind {
		case pim.EntryCreate:
			e.Members = ref.first
		case pim.EntryJoin, pim.EntryLeave:
			e.Sender, e.Members = owner, []pim.UserID{s.user}
		case pim.EntryReaction:
			e.Reaction = s.text
		default:
			e.Payload, e.MentionAll = []byte(s.text), s.all
			if s.mention != "" {
				e.Mentions = []pim.Mention{{User: s.mention}}
			}
		}
		log = append(log, e)
	}
	return log
}

// compareDevices waits until each device of the readers shows what the model says, at most for
// patience.
func (rs *readers) compareDevices(ctx context.Context, m *model, f *findings) error {
	displays := m.displays()
	late := time.Now().Add(rs.run.config.patience())
	for _, u := range rs.users {
		s := m.members[u]
		if s == nil || !s.present() {
			continue
		}
		want := seen{displayed: make(map[pim.Seq]imtest.Displayed)}
		want.unread, want.mentions = m.unread(u)
		for seq, d := range displays {
			if seq > s.joined() {
				want.displayed[seq] = d
			}
		}
		for _, device := range []*member{rs.run.members[u], rs.second[u]} {
			for {
				got, err := rs.look(ctx, device, s.joined())
				if err != nil {
					return err
				}
				// Each time anew: MarkRead does not tell when the end of a mark is acknowledged.
				if want.marked, err = rs.marked(ctx, u); err != nil {
					return err
				}
				difference := want.differs(got)
				if difference == "" {
					rs.did.Counts++
					rs.did.Mentions += int(got.mentions)
					rs.did.Displayed += len(got.displayed)
					break
				}
				if time.Now().After(late) {
					f.add(&rs.did.Different, "%s on %s: %s", u, device.device, difference)
					break
				}
				if !imtest.Pause(ctx, checkEach) {
					return context.Cause(ctx)
				}
			}
		}
	}
	return nil
}

// marked reports whether u has marked the group as unread, by the commands of u's own log.
func (rs *readers) marked(ctx context.Context, u pim.UserID) (marked bool, err error) {
	log, err := imtest.ReadAll(ctx, rs.run.members[u].client, pim.Own(u), pim.MaxPageEntries)
	if err != nil && pim.KindOf(err) != pim.KindNotMember { // of a user who has given no command
		return false, err
	}
	var deleted pim.Seq
	var by pim.DeviceID
	for i := range log {
		e := &log[i]
		c, err := wire.DecodeCommand(e.Payload)
		switch {
		case err != nil:
			return false, err
		case c.Kind != pim.CommandUnread || c.Subject != string(rs.run.group):
		case c.Removed:
			marked, deleted, by = false, e.Seq, e.Device
		case deleted <= c.Known || by == e.Device:
			marked = true
		}
	}
	return marked, nil
}

// look returns what a device shows of the group, without the messages before the entry joined.
func (rs *readers) look(ctx context.Context, m *member, joined pim.Seq) (s seen, err error) {
	conversation := m.client.Conversation(rs.run.group)
	info, err := conversation.Info(ctx)
	if err != nil {
		return s, err
	}
	s = seen{unread: info.Unread, mentions: info.Mentions, marked: info.Marked, displayed: make(map[pim.Seq]imtest.Displayed)}
	view, err := conversation.Messages(ctx, len(rs.run.steps)+1)
	if err != nil {
		return s, err
	}
	defer view.Close()
	for _, item := range view.Items() {
		if e := &item.Entry; e.Kind == pim.EntryMessage && (e.Seq > joined || item.Pending()) {
			s.displayed[e.Seq] = shown(&item)
		}
	}
	return s, nil
}

// shown returns what a line of a View shows.
func shown(item *client.Message) imtest.Displayed {
	d := imtest.Displayed{Payload: string(item.Payload()), Edited: item.Edited(), Recalled: item.Recalled(), Pinned: item.Pinned()}
	if d.Recalled {
		return d
	}
	for _, r := range item.Reactions() {
		for _, u := range r.Users {
			d.Reactions = append(d.Reactions, r.Text+" "+string(u))
		}
	}
	slices.Sort(d.Reactions)
	return d
}

// differs says in words how got differs from s; "" if it does not.
func (s *seen) differs(got seen) string {
	if got.unread != s.unread || got.mentions != s.mentions || got.marked != s.marked {
		return fmt.Sprintf("%d unread, %d mentions, marked %v; the model has %d, %d mentions, marked %v",
			got.unread, got.mentions, got.marked, s.unread, s.mentions, s.marked)
	}
	for seq, d := range s.displayed {
		if g, ok := got.displayed[seq]; !ok {
			return fmt.Sprintf("seq %d is not displayed", seq)
		} else if !same(d, g) {
			return fmt.Sprintf("seq %d is displayed as %+v, the model has %+v", seq, g, d)
		}
	}
	for seq := range got.displayed {
		if _, ok := s.displayed[seq]; !ok {
			return fmt.Sprintf("seq %d is displayed, the model has no such message", seq)
		}
	}
	return ""
}

func same(a, b imtest.Displayed) bool {
	reactions := slices.Equal(a.Reactions, b.Reactions)
	a.Reactions, b.Reactions = nil, nil
	return reactions && reflect.DeepEqual(a, b)
}

// compareReceipts compares what u is told of messages with the model.
func (rs *readers) compareReceipts(ctx context.Context, m *model, f *findings, u pim.UserID, all bool) error {
	newest := pim.Seq(len(m.log))
	from := 1 + pim.Seq(rs.rand.Uint64N(uint64(newest)))
	to := min(newest, from+screen-1)
	if err := rs.compareNames(ctx, m, f, u, from, to); err != nil {
		return err
	}
	if all {
		from, to = 1, newest
	}
	for ; from <= to; from += screen {
		end := min(to, from+screen-1)
		got, err := rs.device(u).client.Receipts(ctx, rs.run.group, from, end)
		if err != nil {
			return fmt.Errorf("receipts for %s: %w", u, err)
		}
		want := m.receipts(u, from, end)
		rs.did.Receipts += len(want)
		if g, w, differ := difference(got.Messages, want); differ {
			f.add(&rs.did.Different, "%s is told that seq %d is read by %d of %d; the model has seq %d, %d of %d",
				u, g.Seq, g.Read, g.Members, w.Seq, w.Read, w.Members)
		}
	}
	return nil
}

// compareNames compares who has read the first message among from..to that u may read.
func (rs *readers) compareNames(ctx context.Context, m *model, f *findings, u pim.UserID, from, to pim.Seq) error {
	for seq := from; seq <= to; seq++ {
		if m.log[seq-1].Kind != pim.EntryMessage || !m.members[u].may(seq) {
			continue
		}
		var got []client.Reader
		for after := pim.UserID(""); ; {
			page, next, err := rs.device(u).client.Readers(ctx, rs.run.group, seq, after)
			if err != nil {
				return fmt.Errorf("readers for %s: %w", u, err)
			}
			got = append(got, page...)
			if after = next; after == "" {
				break
			}
		}
		rs.did.Named++
		if g, w, differ := difference(got, m.readers(seq)); differ {
			f.add(&rs.did.Different, "%s is told of seq %d that %q: read %v, at %d; the model has %q: read %v, at %d",
				u, seq, g.User, g.Read, g.At, w.User, w.Read, w.At)
		}
		return nil
	}
	return nil
}

// difference returns the first place where got and want differ, zero where one of them has ended.
func difference[T comparable](got, want []T) (g, w T, differ bool) {
	for i := range max(len(got), len(want)) {
		var a, b T
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			return a, b, true
		}
	}
	return g, w, false
}
