package inbox

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// Who has read a message is computed when somebody asks, from one cell of each user (Reads) and
// the memberships: nothing is kept for a message. A user whose no-receipts is in force is left
// out as if not a member, so no answer depends on what that user has read.

const (
	maxReceipts    = 50  // seqs that one request asks about, at most
	readersPage    = 500 // readers on a page
	receiptDevices = 256 // devices of the other user that a receipt of a direct conversation looks at
	receiptGets    = 1024
	// fewPresent: if more than this many times as many have ever been members as are present, it
	// is cheaper to look up the present ones than to list all.
	fewPresent = 4
)

// ReceiptRequest asks how far others have read a conversation, see PIMReceiptReq.
type ReceiptRequest struct {
	Conversation pim.ConversationID
	From, To     pim.Seq // To 0: From
	Readers      bool    // who has read the message at From, and who has not
	After        pim.UserID
}

// Receipts is how far others have read a conversation. Of a direct conversation it has Delivered,
// Read and ReadAt, of a group Messages or Readers.
type Receipts struct {
	Delivered pim.Seq // a device of the other user has acknowledged everything up to here
	Read      pim.Seq // the other user has read everything up to here
	ReadAt    pim.Millis
	Messages  []Receipt
	Readers   []Reader   // ascending by user
	Next      pim.UserID // empty: this was the last page of Readers
}

// Receipt says how many have read a message, of those it is for: the present members who may read
// it, without its sender and without those who give no receipts.
type Receipt struct {
	Seq           pim.Seq
	Read, Members int
}

// Reader is one whom a message is for.
type Reader struct {
	User pim.UserID
	Read bool       // has read the message
	At   pim.Millis // when the user had read as far as now; 0 if Read is not set
}

// Receipts returns how far others have read, and durably so. Errors: KindNotMember also if the user
// has left; KindForbidden if the user gives no receipts; KindNotFound if there is no message whose
// readers are asked for; KindInvalid, and the store's.
func (x *Inbox) Receipts(ctx context.Context, user pim.UserID, req ReceiptRequest) (Receipts, error) {
	r, err := x.receipts(ctx, user, req)
	if err == nil {
		err = x.Barrier(ctx)
	}
	if err != nil {
		return Receipts{}, err
	}
	return r, nil
}

// Barrier waits until what was read of cells before is durable, see store.Store.
func (x *Inbox) Barrier(ctx context.Context) error { return x.store.Barrier(ctx) }

func (x *Inbox) receipts(ctx context.Context, user pim.UserID, req ReceiptRequest) (Receipts, error) {
	if req.To == 0 || req.Readers {
		req.To = req.From
	}
	if _, own := req.Conversation.OwnUser(); own {
		return Receipts{}, pim.Errorf(pim.KindInvalid, "nobody else reads %s", req.Conversation)
	}
	newest, _, m, err := x.readable(ctx, user, req.Conversation)
	switch {
	case err != nil:
		return Receipts{}, err
	case req.From == 0 || req.To < req.From || req.To-req.From >= maxReceipts:
		return Receipts{}, pim.Errorf(pim.KindInvalid, "receipts of the seqs %d to %d, at most %d are asked for at once", req.From, req.To, maxReceipts)
	case !m.Present():
		return Receipts{}, notMember(user, req.Conversation)
	}
	if s, err := x.receiptsSetting(ctx, user); err != nil {
		return Receipts{}, err
	} else if s.InForce(0) {
		return Receipts{}, pim.Errorf(pim.KindForbidden, "user %s gives no receipts, and gets none", user)
	}
	if a, b, direct := req.Conversation.DirectUsers(); direct {
		if a == user {
			a = b
		}
		return x.directReceipts(ctx, req.Conversation, a, newest)
	}
	messages, err := x.messages(ctx, req.Conversation, &m, req.From, min(req.To, newest))
	if err != nil {
		return Receipts{}, err
	}
	if req.Readers && len(messages) == 0 {
		return Receipts{}, pim.Errorf(pim.KindNotFound, "%s has no message at seq %d", req.Conversation, req.From)
	}
	if len(messages) == 0 {
		return Receipts{}, nil
	}
	a, err := x.audiences.share(ctx, req.Conversation, x.audienceRest, func() (audience, error) {
		return x.audienceOf(ctx, req.Conversation, newest)
	})
	var r Receipts
	switch {
	case err != nil:
	case req.Readers:
		r.Readers, r.Next = a.readers(messages[0], req.After)
	default:
		r.Messages = a.receipts(messages)
	}
	return r, err
}

// receiptsSetting returns the user's no-receipts.
func (x *Inbox) receiptsSetting(ctx context.Context, user pim.UserID) (pim.Setting, error) {
	cell, ok, err := store.Lookup(ctx, x.store, Settings(user), noReceipts(user))
	if err != nil || !ok {
		return pim.Setting{}, err
	}
	return ParseSetting(cell)
}

// noReceipts returns the entity of the user's no-receipts.
func noReceipts(user pim.UserID) string {
	c := pim.Command{Kind: pim.CommandNoReceipts, Subject: string(user)}
	return c.Entity()
}

// directReceipts returns what peer has got and read of c, whose newest seq is newest: nothing if
// peer blocks the other user. Peer has read what is above peer's own newest message, as the line
// says.
func (x *Inbox) directReceipts(ctx context.Context, c pim.ConversationID, peer pim.UserID, newest pim.Seq) (r Receipts, err error) {
	if newest == 0 {
		return r, nil
	}
	user, other, _ := c.DirectUsers()
	if user == peer {
		user = other
	}
	devices, err := x.store.List(ctx, Devices(peer), "", receiptDevices)
	if err != nil {
		return r, err
	}
	gets := []store.Get{
		{Partition: Settings(peer), Key: noReceipts(peer)},
		{Partition: Settings(peer), Key: entity(pim.CommandBlock, user)},
		{Partition: Reads(c), Key: string(peer)},
		{Partition: Fresh(peer), Key: string(c)},
	}
	for _, d := range devices {
		gets = append(gets, store.Get{Partition: Acked(peer, pim.DeviceID(d.Key)), Key: string(c)})
	}
	if err := x.store.Get(ctx, gets); err != nil {
		return r, err
	}
	var set [2]bool // no-receipts, and the block
	for i := range set {
		if set[i], err = inForce(&gets[i]); err != nil {
			return r, err
		}
	}
	if set[1] && user != peer {
		return r, nil
	}
	for _, g := range gets[4:] {
		r.Delivered = min(newest, max(r.Delivered, pim.Seq(g.Cell.Version)))
	}
	if read := &gets[2].Cell; read.Version != 0 {
		r.Read = min(newest, pim.Seq(read.Version))
		if r.ReadAt, err = readTime(read); err != nil {
			return r, err
		}
	}
	line := gets[3].Cell
	if line.Version == 0 { // a line is in Lines before it is forgotten in Fresh
		if line, _, err = store.Lookup(ctx, x.store, Lines(peer), string(c)); err != nil {
			return r, err
		}
	}
	if line.Version != 0 {
		l, err := ParseLine(line)
		if err != nil {
			return r, err
		}
		if l.Own > 0 && l.Own >= r.Read {
			at, err := x.writtenAt(ctx, c, l.Own)
			if err != nil {
				return r, err
			}
			if l.Own > r.Read || at > 0 && at < r.ReadAt {
				r.Read, r.ReadAt = l.Own, at
			}
		}
	}
	r.Delivered = max(r.Delivered, r.Read) // with no-receipts too, or a switch would take it back
	if set[0] {
		r.Read, r.ReadAt = 0, 0
	}
	return r, nil
}

// writtenAt returns when the entry at seq of c was written, 0 if it was trimmed.
func (x *Inbox) writtenAt(ctx context.Context, c pim.ConversationID, seq pim.Seq) (pim.Millis, error) {
	reads := []store.Read{{Log: Entries(c), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: 1}}}
	if err := x.store.Read(ctx, reads); err != nil || len(reads[0].Records) == 0 {
		return 0, err
	}
	e, err := wire.ParseEntry(c, reads[0].Records[0])
	return e.Server, err
}

// sentMessage is a message of a group, as far as receipts need it.
type sentMessage struct {
	seq    pim.Seq
	sender pim.UserID
}

// messages returns the messages among the entries from..to of c that m may read.
func (x *Inbox) messages(ctx context.Context, c pim.ConversationID, m *Membership, from, to pim.Seq) (messages []sentMessage, err error) {
	for from <= to {
		page := Page{From: from, To: to} // of large messages it holds some only
		if err := x.fill(ctx, &page, c, m); err != nil {
			return nil, err
		}
		for _, encoded := range page.Entries {
			e, err := wire.ParseEntry(c, encoded.Data)
			if err != nil {
				return nil, err
			}
			if e.Kind == pim.EntryMessage {
				messages = append(messages, sentMessage{e.Seq, e.Sender})
			}
		}
		from = page.To + 1
	}
	return messages, nil
}

// audience are the present members of a group who give receipts, ascending by user.
type audience []listener

// listener is a member, and how far the member has read.
type listener struct {
	Membership
	user pim.UserID
	read pim.Seq
	at   pim.Millis
	off  bool // gives no receipts
}

// audienceOf reads the audience of the group c, which has had an entry at seq before.
func (x *Inbox) audienceOf(ctx context.Context, c pim.ConversationID, seq pim.Seq) (audience, error) {
	k, err := x.crowdOf(ctx, c, seq)
	if err != nil {
		return nil, err
	}
	a := slices.Clone(k.members)
	if k.many {
		err = x.getReads(ctx, c, a)
	} else {
		err = x.listReads(ctx, c, a)
	}
	if err == nil {
		err = x.hide(ctx, a)
	}
	kept := a[:0]
	for i := range a {
		if !a[i].off {
			kept = append(kept, a[i])
		}
	}
	return kept, err
}

// listReads reads the cells of Reads(c) for a from a list of all of them.
func (x *Inbox) listReads(ctx context.Context, c pim.ConversationID, a audience) error {
	return x.listAll(ctx, Reads(c), func(cell *store.Cell) error {
		if l := a.next(pim.UserID(cell.Key)); l != nil {
			return l.take(cell)
		}
		return nil
	})
}

// getReads reads the cells of Reads(c) for a one by one, where most of them are of users who have
// left.
func (x *Inbox) getReads(ctx context.Context, c pim.ConversationID, a audience) error {
	for len(a) > 0 {
		some := a[:min(len(a), receiptGets)]
		a = a[len(some):]
		gets := make([]store.Get, len(some))
		for i := range some {
			gets[i] = store.Get{Partition: Reads(c), Key: string(some[i].user)}
		}
		if err := x.store.Get(ctx, gets); err != nil {
			return err
		}
		for i := range gets {
			if gets[i].Cell.Version == 0 {
				continue
			}
			if err := some[i].take(&gets[i].Cell); err != nil {
				return err
			}
		}
	}
	return nil
}

// hide notes which of a give no receipts. As long as few users have ever switched theirs it costs
// nothing for each member.
func (x *Inbox) hide(ctx context.Context, a audience) error {
	cells, err := x.store.List(ctx, Hidden, "", scanPage)
	if err != nil {
		return err
	}
	if len(cells) < scanPage {
		for i := range cells {
			if l := a.next(pim.UserID(cells[i].Key)); l != nil {
				l.off = hides(&cells[i])
			}
		}
		return nil
	}
	for len(a) > 0 {
		some := a[:min(len(a), receiptGets)]
		a = a[len(some):]
		gets := make([]store.Get, len(some))
		for i := range some {
			gets[i] = store.Get{Partition: Hidden, Key: string(some[i].user)}
		}
		if err := x.store.Get(ctx, gets); err != nil {
			return err
		}
		for i := range gets {
			some[i].off = hides(&gets[i].Cell)
		}
	}
	return nil
}

// take takes how far l has read from its ReadCell.
func (l *listener) take(cell *store.Cell) (err error) {
	l.read = pim.Seq(cell.Version)
	l.at, err = readTime(cell)
	return err
}

// next drops from a all listeners before user, and returns user's, nil if there is none.
func (a *audience) next(user pim.UserID) *listener {
	for len(*a) > 0 && (*a)[0].user < user {
		*a = (*a)[1:]
	}
	if len(*a) > 0 && (*a)[0].user == user {
		return &(*a)[0]
	}
	return nil
}

// hears reports whether m is for l.
func (l *listener) hears(m sentMessage) bool { return l.user != m.sender && l.Reads(m.seq) }

// receipts returns the receipts of messages, which ascend by seq. It looks at each listener once,
// however many messages there are.
func (a audience) receipts(messages []sentMessage) []Receipt {
	// first returns the place of the first message from seq on.
	first := func(seq pim.Seq) int {
		i, _ := slices.BinarySearchFunc(messages, seq, func(m sentMessage, seq pim.Seq) int { return cmp.Compare(m.seq, seq) })
		return i
	}
	// more[i] is how many more hear, or have read, message i than the one before.
	more := make([]struct{ members, read int }, len(messages)+1)
	for i := range a {
		l := &a[i]
		read := first(l.read + 1)
		for _, p := range l.Periods {
			if p.To != 0 && len(messages) > 0 && p.To < messages[0].seq {
				continue
			}
			from, to := first(p.From), len(messages)
			if p.To != 0 {
				to = first(p.To + 1)
			}
			more[from].members++
			more[to].members--
			if read > from {
				more[from].read++
				more[min(read, to)].read--
			}
		}
	}
	receipts := make([]Receipt, len(messages))
	members, read := 0, 0
	for i, m := range messages {
		members += more[i].members
		read += more[i].read
		r := Receipt{Seq: m.seq, Read: read, Members: members}
		at, found := slices.BinarySearchFunc(a, m.sender, func(l listener, u pim.UserID) int { return cmp.Compare(l.user, u) })
		if found && a[at].Reads(m.seq) {
			r.Members--
			if a[at].read >= m.seq {
				r.Read--
			}
		}
		receipts[i] = r
	}
	return receipts
}

// readers returns a page of those whom m is for, behind after.
func (a audience) readers(m sentMessage, after pim.UserID) (page []Reader, next pim.UserID) {
	for i := range a {
		l := &a[i]
		if l.user <= after || !l.hears(m) {
			continue
		}
		if len(page) == readersPage {
			return page, page[readersPage-1].User
		}
		r := Reader{User: l.user}
		if l.read >= m.seq {
			r.Read, r.At = true, l.at
		}
		page = append(page, r)
	}
	return page, ""
}

// listAll calls f on every cell of p.
func (x *Inbox) listAll(ctx context.Context, p store.Partition, f func(*store.Cell) error) error {
	for after := ""; ; {
		cells, err := x.store.List(ctx, p, after, scanPage)
		if err != nil {
			return err
		}
		for i := range cells {
			if err := f(&cells[i]); err != nil {
				return err
			}
			after = cells[i].Key
		}
		if len(cells) < scanPage {
			return nil
		}
	}
}
