package chat

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
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

// A text to a group says where it mentions, and these places are bold on the screen.
func TestMentionPlaces(t *testing.T) {
	const text = "hi @bob, ask bob@bob.example or @bobby; @all"
	payload, err := sayIn(group, content.Content{Text: text, Thread: 3})
	if err != nil {
		t.Fatal(err)
	}
	say, err := content.Parse(payload)
	if err != nil || say.Text != text || say.Thread != 3 {
		t.Fatalf("it says %+v, %v", say, err)
	}
	var got []string
	for _, p := range say.Mentions {
		got = append(got, fmt.Sprintf("%s at %q", p.User, text[p.Offset:p.Offset+p.Length]))
	}
	if want := []string{`bob at "@bob"`, `bobby at "@bobby"`, ` at "@all"`}; !slices.Equal(got, want) {
		t.Errorf("the places are %q, want %q", got, want)
	}
	item := says(group, 4, "carol", text)
	item.Entry.Payload = payload
	d := newDesk(t, 40, 24, Start{Open: group})
	d.furnish()
	d.items[group] = append(d.items[group], item)
	d.happens(client.EntryEvent{Entry: item.Entry})
	for _, name := range []string{"@bob", "@bobby", "@all"} {
		view, _ := d.Model.View()
		if want := bold.Styled(name); strings.Count(view, want) != 1 {
			t.Errorf("%q is not once in %q", want, view)
		}
	}
	if got, want := embolden("am@bo", 2, []span{{0, 1}, {1, 3}, {5, 9}}), bold.Styled("a")+"m@"+bold.Styled("bo"); got != want {
		t.Errorf("a part is shown as %q, want %q", got, want)
	}
	if payload, err := sayIn(bob, content.Content{Text: text}); err != nil || string(payload) != text {
		t.Errorf("to one person it says %q, %v", payload, err)
	}
	full := "@bob " + strings.Repeat("x", pim.MaxPayload-5)
	if payload, err := sayIn(group, content.Content{Text: full}); err != nil || string(payload) != full {
		t.Errorf("a text without room has %d bytes, %v", len(payload), err)
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
