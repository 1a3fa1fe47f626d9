package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
	"google.golang.org/protobuf/encoding/protowire"
)

// SyncRequest asks for a page of a device's offline list, see PIMSyncReq.
type SyncRequest struct {
	User   pim.UserID
	Device pim.DeviceID
	Full   bool               // every conversation, whatever was acknowledged
	After  pim.ConversationID // Next of the page before
	Limit  int                // conversations; 0: defaultSync
	// Later, if not nil, is given what the sync writes, to be carried out after the answer,
	// so that a disk that hangs holds no answer up. It may drop a write: the next sync
	// makes it again. The first mark of a device that asks for fronts is written before the
	// answer, if that takes less than a second.
	Later  func(func(context.Context))
	Brief  bool // see Summary.Last
	Fronts bool // of the first page: set SyncPage.Fronts
	// Recent says how many conversations Recent returns, at most MaxRecent. Sync does not heed it.
	Recent int
}

const (
	defaultSync = 100
	maxSync     = 1000
	scanPage    = 512 // cells read at once
	syncLines   = 32  // lines whose acknowledgements are looked up at once
	// syncEntries is how many newest entries a page reads at first. It doubles while there is
	// room, so a page of large entries reads not much more than it holds.
	syncEntries = 4
	// summaryOverhead is how many bytes a Summary takes in a frame besides its conversation,
	// its entry and the numbers of its line, at most: five flags, two seqs of the own log, the
	// tags and lengths of the fields and of itself.
	summaryOverhead = 47
	// lastPayload is how many bytes of payload a last entry keeps that is neither whole nor
	// brief.
	lastPayload = 256
	shortLast   = 512 // bytes, enough for most last entries that are not whole
)

// Summary is one conversation that a device has not got the whole of.
type Summary struct {
	Conversation pim.ConversationID
	Line
	Acked pim.Seq // by this device
	Told          // of the user's settings
	Last  []byte  // the entry at Newest, encoded as the device gets it; nil if it is not durable yet
	Cut   bool    // Last's payload was cut
	Front pim.Seq // the log's front; 0: not known
	Whole bool    // Last is small, and is what Pull would return: no Pull is needed for it
	// If Last is not whole it is as wire.BriefEntry makes it if SyncRequest.Brief is set, else
	// without members and with lastPayload bytes of payload at most.
}

// Size returns how many bytes s takes in a PIMSyncResp, at most, whatever Told is.
func (s *Summary) Size() int {
	size := len(s.Conversation) + len(s.Last) + summaryOverhead
	for _, n := range [...]uint64{uint64(s.Acked), uint64(s.Own), s.OwnCount, uint64(s.Newest), s.Count} {
		size += 1 + protowire.SizeVarint(n)
	}
	for _, n := range [...]uint64{s.Named, s.Named, s.OwnAll, s.All, s.All} { // ReadNamed and ReadAll are Named and All at most
		if n != 0 {
			size += 2 + protowire.SizeVarint(n)
		}
	}
	if s.Front > 1 {
		size += 2 + protowire.SizeVarint(uint64(s.Front))
	}
	// Read and ReadCount are Newest and Count at most.
	return size + 2 + protowire.SizeVarint(uint64(s.Newest)) + protowire.SizeVarint(s.Count)
}

// SyncPage is one page of an offline list.
type SyncPage struct {
	Summaries []Summary
	Next      pim.ConversationID // empty: this was the last page
	// Fronts are those that the device has not acknowledged, at most MaxFronts, in the order of
	// conversations. The device drops what is before them, and acknowledges them (Acks.NoteFronts).
	Fronts []Front

	settles bool // no line was seen that the device has not acknowledged
}

// Size returns how many bytes p takes as a PIMSyncResp, at most.
func (p *SyncPage) Size() int {
	size := 64 + len(p.Next) + p.frontsSize()
	for i := range p.Summaries {
		size += p.Summaries[i].Size()
	}
	return size
}

// Sync returns one page, in the order of conversation IDs. A sync with nothing new costs
// the same whatever the user has: the device is settled, and few lines are fresh. For a
// device that is not settled Sync walks over all lines, and settles the device if the
// walk finds nothing new.
func (x *Inbox) Sync(ctx context.Context, req SyncRequest) (SyncPage, error) {
	lines := x.newWalk(req.User, req.After, true)
	if !req.Full {
		if err := lines.fresh.read(ctx); err != nil {
			return SyncPage{}, err
		}
	}
	mark, err := x.mark(ctx, &req)
	if err != nil {
		return SyncPage{}, err
	}
	fronts, err := x.fronts(ctx, &req)
	if err != nil {
		return SyncPage{}, err
	}
	if settled(mark) && !req.Full {
		all := lines.fresh.ended
		page, err := x.syncPage(ctx, req, lines, fronts)
		if err != nil || all {
			return page, err
		}
		// A line that was folded before Fresh was read is only in Lines. Then the fold has
		// raised the mark. If the mark was read after all of Fresh, it would not be settled;
		// here a part of Fresh was read after it.
		if again, err := x.mark(ctx, &req); err != nil || again == mark {
			return page, err
		}
	}
	// The device may be settled by this walk, so all of Fresh is read after the mark.
	page, err := x.syncPage(ctx, req, x.newWalk(req.User, req.After, false), fronts)
	if err == nil && mark != 0 && !settled(mark) && req.After == "" && page.Next == "" && page.settles {
		req.later(ctx, func(ctx context.Context) {
			_ = x.raise(ctx, markCell(req.User, string(req.Device), mark+1)) // on an error the next sync walks, too
		})
	}
	return page, err
}

// later leaves f to r.Later, or else calls it now.
func (r *SyncRequest) later(ctx context.Context, f func(context.Context)) {
	if r.Later != nil {
		r.Later(f)
		return
	}
	f(ctx)
}

// syncPage is Sync over the lines of a walk.
func (x *Inbox) syncPage(ctx context.Context, req SyncRequest, lines *walk, fronts []Front) (SyncPage, error) {
	limit := defaultSync
	if req.Limit > 0 {
		limit = min(req.Limit, maxSync)
	}
	acks := cursor{store: x.store, partition: Acked(req.User, req.Device), after: string(req.After)}
	folding := fold{Inbox: x, user: req.User, device: req.Device, later: req.later}
	page := SyncPage{Fronts: fronts, settles: true}
	entries := syncEntries // to be read at once
	room := wire.FrameRoom - page.frontsSize()
	for page.Next == "" {
		some, err := lines.some(ctx, syncLines)
		if err != nil {
			return page, err
		}
		if len(some) == 0 {
			break
		}
		if err := x.lookUpAcked(ctx, &acks, some, lines.freshOnly); err != nil {
			return page, err
		}
		for i := range some {
			l := &some[i]
			if len(page.Summaries) == limit {
				page.Next = page.Summaries[limit-1].Conversation
				break
			}
			if l.acked >= l.Version {
				folding.add(ctx, l)
				if !req.Full {
					continue
				}
			} else {
				page.settles = false
			}
			if !l.read {
				x.readNewest(ctx, some[i:], min(entries, limit-len(page.Summaries)), req.Full)
				entries = min(2*entries, syncLines)
			}
			s, err := l.summary()
			if err != nil {
				return page, err
			}
			if err := s.settleLast(req.Brief, wire.FrameRoom); err != nil {
				return page, err
			}
			if n := len(page.Summaries); n > 0 && s.Size() > room {
				page.Next = page.Summaries[n-1].Conversation
				break
			}
			page.Summaries = append(page.Summaries, s)
			room -= s.Size()
		}
	}
	folding.end(ctx)
	x.lookUpSettings(ctx, req.User, page.Summaries)
	return page, nil
}

// lookUpAcked sets the acked of lines: by look-ups if few conversations are asked about, else
// by a walk over all of them.
func (x *Inbox) lookUpAcked(ctx context.Context, acks *cursor, lines []line, few bool) (err error) {
	if !few {
		for i := range lines {
			if lines[i].acked, err = acks.version(ctx, lines[i].Key); err != nil {
				return err
			}
		}
		return nil
	}
	gets := make([]store.Get, len(lines))
	for i := range lines {
		gets[i] = store.Get{Partition: acks.partition, Key: lines[i].Key}
	}
	if err := x.store.Get(ctx, gets); err != nil {
		return err
	}
	for i := range gets {
		lines[i].acked = gets[i].Cell.Version
	}
	return nil
}

// readNewest sets the newest and the front of the first n of lines that the device has not acknowledged, or of
// the first n of all.
func (x *Inbox) readNewest(ctx context.Context, lines []line, n int, all bool) {
	var reads []store.Read
	var of []*line
	for i := range lines {
		if l := &lines[i]; len(of) < n && (all || l.acked < l.Version) {
			seq := pim.Seq(l.Version)
			reads = append(reads, store.Read{
				Log: Entries(pim.ConversationID(l.Key)), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: pim.MaxFrame}, WithLast: true,
			})
			of = append(of, l)
		}
	}
	_ = x.store.Read(ctx, reads) // each has its own error
	for i, l := range of {
		l.read, l.front = true, reads[i].Front
		if l.err = reads[i].Err; len(reads[i].Records) == 1 {
			l.newest = reads[i].Records[0]
		}
	}
}

func (l *line) summary() (Summary, error) {
	s := Summary{Conversation: pim.ConversationID(l.Key), Acked: pim.Seq(l.acked), Last: l.newest, Front: l.front}
	var err error
	if s.Line, err = ParseLine(l.Cell); err == nil {
		err = l.err
	}
	return s, err
}

// wholeEntry is the size of a last entry, encoded, that is small enough to be shown
// whole.
const wholeEntry = 512

// settles reports whether the last entry is shown whole. A brief summary shows it whole
// only if it is all that the device lacks: then the summary takes the place of a pull.
func (s *Summary) settles(brief bool) bool {
	if len(s.Last) > wholeEntry {
		return false
	}
	return !brief || s.Newest == s.Acked+1
}

// settleLast makes Last what the device gets of the last entry, which is stored as Last. It is not
// whole if s would take more than most bytes with it.
func (s *Summary) settleLast(brief bool, most int) error {
	if s.Last == nil {
		return nil
	}
	var err error
	switch s.Whole = s.settles(brief) && s.Size() <= most; {
	case s.Whole:
		err = wire.CheckEntry(s.Last)
	case brief:
		s.Last, s.Cut, err = wire.AppendBrief(make([]byte, 0, min(len(s.Last), shortLast)), s.Last)
	default:
		s.Last, s.Cut, err = wire.AppendCut(make([]byte, 0, min(len(s.Last), shortLast)), s.Last, lastPayload)
	}
	if err != nil {
		return pim.Errorf(pim.KindCorrupt, "last entry of %s: %w", s.Conversation, err)
	}
	return nil
}

// Serial returns the highest serial of a PIMPushAck stored for the device, 0 if
// there is none.
func (x *Inbox) Serial(ctx context.Context, user pim.UserID, device pim.DeviceID) (uint64, error) {
	cell, _, err := store.Lookup(ctx, x.store, Devices(user), string(device))
	return cell.Version, err
}

// Known reports whether the user has had a part in pim: a conversation in the
// offline list, or a device that acknowledged something.
func (x *Inbox) Known(ctx context.Context, user pim.UserID) (bool, error) {
	return Known(ctx, x.store, user)
}

// Known is Inbox.Known for a store.
func Known(ctx context.Context, s store.Store, user pim.UserID) (bool, error) {
	for _, p := range []store.Partition{Fresh(user), Lines(user), Devices(user)} {
		cells, err := s.List(ctx, p, "", 1)
		if err != nil || len(cells) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}
