package inbox

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// Mentions holds where users are named in a conversation, see MentionCell.
func Mentions(c pim.ConversationID) store.Partition { return store.Partition("mentions/" + c) }

// MentionCell says that the message at seq of c names m.User, and counts. Its key is the user, a
// '/' and the seq, inverted: a List begins with the newest one at or below some seq. Its version
// is the seq.
func MentionCell(c pim.ConversationID, seq pim.Seq, m pim.Mention) store.CellWrite {
	return store.CellWrite{
		Partition: Mentions(c),
		Cell:      store.Cell{Key: mentionKey(m.User, seq), Version: uint64(seq), Value: binary.AppendUvarint(nil, m.Count)},
	}
}

func mentionKey(u pim.UserID, seq pim.Seq) string {
	key := append(make([]byte, 0, len(u)+9), u...)
	return string(binary.BigEndian.AppendUint64(append(key, '/'), ^uint64(seq)))
}

// parseMentionKey returns the user and the seq of a key of Mentions(c).
func parseMentionKey(c pim.ConversationID, key string) (pim.UserID, pim.Seq, error) {
	at := len(key) - 9
	if at < 1 || key[at] != '/' {
		return "", 0, pim.Errorf(pim.KindCorrupt, "a mention in %s has the key %q", c, key)
	}
	return pim.UserID(key[:at]), pim.Seq(^binary.BigEndian.Uint64([]byte(key[at+1:]))), nil
}

// namedUpTo returns the Count of the last mention of user at or below seq, 0 if there is none.
func (x *Inbox) namedUpTo(ctx context.Context, c pim.ConversationID, user pim.UserID, seq pim.Seq) (uint64, error) {
	cells, err := x.store.List(ctx, Mentions(c), mentionKey(user, seq+1), 1)
	if err != nil || len(cells) == 0 || !strings.HasPrefix(cells[0].Key, string(user)+"/") {
		return 0, err
	}
	count, n := binary.Uvarint(cells[0].Value)
	if n <= 0 {
		return 0, pim.Errorf(pim.KindCorrupt, "mention %q with the value %x", cells[0].Key, cells[0].Value)
	}
	return count, nil
}

// errTrimmed is the error of a look-up that needs entries, or cells of entries, that were trimmed
// meanwhile.
var errTrimmed = pim.Errorf(pim.KindUnavailable, "the conversation is being trimmed")

// named returns pim.Mentioned.Named of user at seq of c, a durable seq, which is the last one before
// the log's front or a later one. Most often the user's line tells that nothing has named the user
// since the entry at Own, and then no other mention matters. If the front has passed seq meanwhile,
// named returns the right number or errTrimmed.
func (x *Inbox) named(ctx context.Context, user pim.UserID, c pim.ConversationID, seq pim.Seq) (uint64, error) {
	line, _, err := x.Line(ctx, user, c)
	switch {
	case err != nil, line.Newest >= seq && line.Named == 0:
		return 0, err
	case line.Newest == seq:
		return line.Named, nil
	}
	var front pim.Seq
	if line.Newest < seq { // read before the mentions: those of entries before the front are there, or their successors
		if front, err = x.front(ctx, c); err != nil {
			return 0, err
		}
	}
	count, err := x.namedUpTo(ctx, c, user, seq)
	if err == nil && count == 0 {
		// Either nobody has named the user up to seq, or a trim has taken the mentions up to seq. It
		// has left a later one then, see ForgetTrimmed.
		var now pim.Seq
		if now, err = x.front(ctx, c); err == nil && now > seq+1 {
			err = errTrimmed
		}
	}
	if err != nil || line.Newest >= seq {
		return count, err
	}
	// The cells of entries that came after the line may not be written yet. A group that the user has left may have no line,
	// or an old one; those of entries that were trimmed are written.
	from := max(line.Newest+1, front, seq-min(seq, maxUnsettled))
	for err == nil && from <= seq {
		reads := []store.Read{{Log: Entries(c), From: from, To: seq, Limit: store.Limit{Records: maxUnsettled, Bytes: pim.MaxPageBytes}}}
		if err = x.store.Read(ctx, reads); err != nil || len(reads[0].Records) == 0 {
			break
		}
		if reads[0].First > from {
			return 0, errTrimmed
		}
		for _, data := range reads[0].Records {
			var e pim.Entry
			if e, err = wire.ParseEntry(c, data); err != nil {
				break
			}
			count = max(count, e.NamedIn(user))
		}
		from = reads[0].First + pim.Seq(len(reads[0].Records))
	}
	return count, err
}

// front returns the front of the log of c.
func (x *Inbox) front(ctx context.Context, c pim.ConversationID) (pim.Seq, error) {
	end := []store.Read{{Log: Entries(c), WithLast: true}}
	err := x.store.Read(ctx, end)
	return end[0].Front, err
}

// maxUnsettled is how many entries of a log named looks through, at most. The cells of older ones
// were written: a writer that takes over a longer tail writes them at once.
const maxUnsettled = 2048
