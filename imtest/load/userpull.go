package load

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// How a user pulls what it was not pushed. u.mu is held throughout.

// talkBits is the room in a RequestId for the number of the conversation.
const talkBits = 20

// asking returns the talk whose last page was asked for with this RequestId, nil if there
// is none.
func (u *user) asking(request uint64) *talk {
	n := request & (1<<talkBits - 1)
	if n >= uint64(len(u.talks)) || u.talks[n].page != request {
		return nil
	}
	return &u.talks[n]
}

// pull asks for the entries after seq of the n-th conversation, unless a pull of it
// is under way.
func (u *user) pull(n int, seq uint64) {
	if t := &u.talks[n]; !t.pulling {
		t.startPull(seq)
		u.askPage(n)
	}
}

// askPage asks for the next page of a pull.
func (u *user) askPage(n int) {
	t := &u.talks[n]
	u.pages++
	t.page = u.pages<<talkBits | uint64(n)
	t.asked = t.reached
	u.repeatPage(t)
}

// repeatPage asks once more for the page that was asked for last.
func (u *user) repeatPage(t *talk) {
	u.out = u.appendFrame(u.out, &wirepb.PIMPullReq{
		RequestId: t.page, Conversation: string(t.conv), From: t.asked + 1, Limit: pim.MaxPageEntries,
	})
}

// takePull takes in one frame of a pull's answer. After the last frame of a page it asks
// for the next page, if there is one. If a page was asked for twice, takePull ignores the
// second answer: another pull may be under way by then, and entries that the late answer
// does not hold would be taken for holes in that pull.
func (u *user) takePull(f []byte) error {
	var from, to, newest uint64
	var done bool
	var t *talk
	resp := fields{rest: f[1:]}
	for resp.next() {
		switch resp.num {
		case 1: // request_id: comes before all other fields
			if t = u.asking(resp.val); t == nil || !t.pulling {
				return nil
			}
		case 3:
			if err := u.takeEntry(resp.data, true); err != nil {
				return err
			}
		case 4:
			from = resp.val
		case 5:
			to = resp.val
		case 6:
			newest = resp.val
		case 7:
			done = resp.val != 0
		}
	}
	if resp.bad || t == nil {
		return unreadable(f)
	}
	n := int(t.page & (1<<talkBits - 1))
	if from <= to {
		t.settle(to)
		u.noteNews(n)
	}
	if done {
		u.pageDone(n, newest)
	}
	return nil
}

// pageDone asks for the next page of a pull, or ends the pull if it has come to the end.
// A page that brought nothing new ends the pull as well: the drain will ask again.
func (u *user) pageDone(n int, newest uint64) {
	t := &u.talks[n]
	switch {
	case t.reached < max(t.need, newest) && t.reached > t.asked:
		u.askPage(n)
	case t.back != never:
		t.startPull(t.back)
		u.askPage(n)
	default:
		t.pulling = false
	}
}
