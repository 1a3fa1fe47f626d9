package conv

import (
	"encoding/binary"
	"testing"

	"github.com/pim-im/pim"
)

// A conversation with a message every few seconds stays small, however many messages it has
// had. A server may have a hundred thousand such conversations at a time.
func TestASlowConversationIsSmall(t *testing.T) {
	l := &live{conversation: newConversation("d:ann:bob", 2)}
	now := pim.Millis(1_795_000_000_000)
	for seq := pim.Seq(1); seq <= 3_000; seq++ {
		now += 6_000
		if seq%snapshotEvery == 0 {
			l.snapshotCell()
		}
		var x pim.ClientMessageID
		binary.BigEndian.PutUint64(x[:], uint64(now)<<16)
		sender := []pim.UserID{"ann", "bob"}[seq%2]
		if o := l.step(&Request{Conversation: l.id, Kind: pim.EntryMessage, Sender: sender, ClientID: x, Local: now}, findings{}, now); o.err != nil {
			t.Fatal(o.err)
		}
		if cost := l.cost(); cost > 6_000 {
			t.Fatalf("after %d messages it takes %d bytes: %d of IDs", seq, cost, l.ids.Room()+l.ids.Others())
		}
	}
}
