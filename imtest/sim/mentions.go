package sim

import (
	"fmt"
	"slices"

	"github.com/pim-im/pim"
)

// mentionsDiffer compares what the devices of a user count as mentions with the log: the messages
// of others that mention the user while a member, by name or all, after the user's newest own
// message, newest joining and read position.
func (w *World) mentionsDiffer() (broken []string) {
	for _, d := range w.devices {
		settings := w.Server.Settings(d.User)
		for _, c := range w.Server.Conversations(d.User) {
			if w.unknownMark(d, c, w.mark(d.User, c).Seq) {
				continue
			}
			read := settings[readEntity(c)]
			want := uint64(0)
			for _, e := range w.Server.Readable(c, d.User) {
				names := slices.ContainsFunc(e.Mentions, func(m pim.Mention) bool { return m.User == d.User })
				switch {
				case e.Sender == d.User && e.Kind == pim.EntryMessage, (e.Kind == pim.EntryCreate || e.Kind == pim.EntryJoin) && slices.Contains(e.Members, d.User):
					want = 0
				case (names || e.MentionAll) && e.Seq > read.Seq:
					want++
				}
			}
			row := d.disk.conversations[c]
			if got := row.Since(row.OwnCount, row.OwnAll, pim.Mentioned{Named: read.Named, All: read.All}); got != want {
				broken = append(broken, fmt.Sprintf("mentions: %s/%s has %d of %s, read up to %d and %d; the log says %d", d.User, d.ID, got, c, read.Seq, row.Own, want))
			}
		}
	}
	return broken
}
