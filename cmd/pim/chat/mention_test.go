package chat

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

func TestNamed(t *testing.T) {
	for text, want := range map[string]string{
		"@bob":                    "[bob] false",
		"hi @bob, @carol: lunch?": "[bob carol] false",
		"(@bob's) @bob.":          "[bob] false",
		"@all @bob":               "[bob] true",
		"@all-hands":              "[all-hands] false",
		"你好@王小明，@bob！":            "[王小明 bob] false",
		"@j.doe@example.org...":   "[j.doe@example.org] false",
		"@bob_ @eve-":             "[bob_ eve] false",
		"mail bob@example.org":    "[] false",
		"https://example.org/@bob or @ all, @@, @-": "[] false",
		"one\n@bob": "[bob] false",
		"@" + strings.Repeat("x", pim.MaxIDBytes+1): "[] false",
	} {
		users, all := named(text)
		if got := fmt.Sprint(users, all); got != want {
			t.Errorf("%q names %s, want %s", text, got, want)
		}
	}
	var many []string
	for i := range pim.MaxMentions + 1 {
		many = append(many, fmt.Sprint("@u", i))
	}
	if users, _ := named(strings.Join(many, " ")); len(users) != pim.MaxMentions {
		t.Errorf("%d are named", len(users))
	}
}

// Only in a group does a text mention anybody.
func TestMentioning(t *testing.T) {
	mentioned := func(id pim.ConversationID) (m client.Outgoing) {
		for _, o := range mentioning(id, "@bob @all") {
			o(&m)
		}
		return m
	}
	if m := mentioned(group); !slices.Equal(m.Mentions, []pim.UserID{"bob"}) || !m.MentionAll {
		t.Errorf("mentioned are %q, all: %t", m.Mentions, m.MentionAll)
	}
	if m := mentioned(bob); m.Mentions != nil || m.MentionAll {
		t.Errorf("mentioned are %q, all: %t", m.Mentions, m.MentionAll)
	}
}

// The list counts unread mentions. A message says whom it mentions, once.
func TestScreensWithMentions(t *testing.T) {
	for _, width := range []int{80, 120} {
		d := newDesk(t, width, 24, Start{Open: group})
		d.furnish()
		for i, text := range []string{"@alice @bob, lunch?", "@all: now", "lunch!"} {
			m := says(group, pim.Seq(5+i), "carol", text)
			m.Entry.MentionAll = i > 0
			m.Entry.Mentions = []pim.Mention{{User: "alice"}, {User: "bob"}}
			d.items[group] = append(d.items[group], m)
		}
		d.list[0].Last, d.list[0].Unread = d.items[group][3].Entry, 0
		d.list[1].Unread, d.list[1].Mentions = 1, 1
		d.list[2].Unread, d.list[2].Mentions = 1204, 2
		d.happens(client.EntryEvent{Entry: d.list[0].Last})
		d.shows(fmt.Sprintf("mentions-%dx24", width))
	}
}
