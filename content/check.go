package content

import (
	"strings"
	"unicode/utf8"

	"github.com/pim-im/pim"
)

// check reports what is wrong with c, apart from the content of its forward.
func (c *Content) check() error {
	if !utf8.ValidString(c.Text) {
		return pim.Errorf(pim.KindInvalid, "content: the text is not valid UTF-8")
	}
	if err := checkMentions(c.Text, c.Mentions); err != nil {
		return err
	}
	if r := c.Reply; r != nil {
		if err := r.check(); err != nil {
			return err
		}
	}
	if f := c.Forward; f != nil {
		if err := f.check(); err != nil {
			return err
		}
	}
	if c.Custom != nil {
		return checkType(c.Custom.Type)
	}
	return nil
}

func checkMentions(text string, mentions []Mention) error {
	if len(mentions) > MaxMentions {
		return tooManyMentions(len(mentions))
	}
	end := 0 // of the mention before
	for _, m := range mentions {
		if m.User != "" {
			if err := m.User.Validate(); err != nil {
				return err
			}
		}
		if m.Offset < end || m.Length < 1 || m.Offset > len(text) || m.Length > len(text)-m.Offset {
			return pim.Errorf(pim.KindInvalid, "content: a mention at %d of %d bytes, in a text of %d and after a mention that ends at %d",
				m.Offset, m.Length, len(text), end)
		}
		if end = m.Offset + m.Length; !starts(text, m.Offset) || !starts(text, end) {
			return pim.Errorf(pim.KindInvalid, "content: a mention at %d of %d bytes cuts a code point", m.Offset, m.Length)
		}
	}
	return nil
}

func tooManyMentions(n int) error {
	return pim.Errorf(pim.KindTooLarge, "content: %d mentions, at most %d are allowed", n, MaxMentions)
}

// starts reports whether a code point starts at text[i], or text ends there.
func starts(text string, i int) bool { return i == len(text) || utf8.RuneStart(text[i]) }

func (r *Reply) check() error {
	switch {
	case r.Seq == 0:
		return pim.Errorf(pim.KindInvalid, "content: a reply to no seq")
	case len(r.Excerpt) > MaxExcerpt:
		return pim.Errorf(pim.KindTooLarge, "content: an excerpt of %d bytes, at most %d are allowed", len(r.Excerpt), MaxExcerpt)
	case !utf8.ValidString(r.Excerpt):
		return pim.Errorf(pim.KindInvalid, "content: the excerpt is not valid UTF-8")
	}
	return r.Sender.Validate()
}

func (f *Forward) check() error {
	if f.Sender != "" {
		if err := f.Sender.Validate(); err != nil {
			return err
		}
	}
	if f.Conversation != "" {
		return f.Conversation.Validate()
	}
	return nil
}

// checkType checks that t is two words of RFC 6838, section 4.2, with a "/" between.
func checkType(t string) error {
	if len(t) > MaxType {
		return pim.Errorf(pim.KindTooLarge, "content: a type of %d bytes, at most %d are allowed", len(t), MaxType)
	}
	top, sub, ok := strings.Cut(t, "/")
	if !ok || !word(top) || !word(sub) {
		return pim.Errorf(pim.KindInvalid, "content: %q is no type such as application/vnd.example.poll", t)
	}
	return nil
}

func word(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || !strings.Contains("!#$&-^_.+", string(rune(c)))) {
			return false
		}
	}
	return s != ""
}
