package conv

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// The same as TestCostIsTheMemory, for the members and settings that a single entry can bring.
func TestCostOfMembersAndSettings(t *testing.T) {
	now := pim.MillisOf(time.Now())
	step := func(l *live, r *Request) {
		t.Helper()
		r.ClientID, r.Local = pim.NewClientMessageID(time.Now()), now
		if r.Kind != pim.EntryCreate { // a created group gets its ID from the server
			r.Conversation = l.id
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
		if o := l.step(r, findings{}, now); o.err != nil {
			t.Fatal(o.err)
		}
	}
	group := func(n, pad int) func(i int) *live {
		return func(i int) *live {
			l := &live{conversation: newConversation(pim.ConversationID(fmt.Sprint("g:", i)), 2000)}
			members := make([]pim.UserID, n)
			for j := range members {
				members[j] = pim.UserID(fmt.Sprint("u", i, "-", j, strings.Repeat("x", pad)))
			}
			step(l, &Request{Kind: pim.EntryCreate, Sender: "maker", Device: "d", Members: members})
			return l
		}
	}
	settings := func(size int) func(i int) *live {
		return func(i int) *live {
			user := pim.UserID(fmt.Sprint("u", i))
			l := &live{conversation: newConversation(pim.Own(user), 2000)}
			for j := range 50 {
				contact := pim.Command{Kind: pim.CommandContact, Subject: fmt.Sprint("friend", j), Value: make([]byte, size)}
				step(l, &Request{Kind: pim.EntryCommand, Sender: user, Device: "d", Payload: wire.AppendCommand(nil, &contact)})
			}
			return l
		}
	}
	for name, build := range map[string]func(i int) *live{
		"2 members": group(2, 0), "1000 members": group(1000, 0), "1000 members with long names": group(1000, 50),
		"small settings": settings(1), "large settings": settings(pim.MaxCommandValue),
	} {
		before := inHeap()
		var lives []*live
		cost := 0
		for i := 0; cost < measurable; i++ {
			l := build(i)
			lives = append(lives, l)
			cost += l.cost()
		}
		heap := inHeap() - before
		t.Logf("%s: %d bytes a conversation, %d are counted", name, heap/len(lives), cost/len(lives))
		if heap > cost*5/4 || heap < cost/3 {
			t.Errorf("%s: %d bytes of memory are counted as %d", name, heap, cost)
		}
		runtime.KeepAlive(lives)
	}
}
