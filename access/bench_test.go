package access_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/store/pebble"
)

// What a login pays to learn that nothing of its user is revoked; and that something is.
func BenchmarkStanding(b *testing.B) {
	st, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	book := access.New(st)
	for _, user := range []pim.UserID{"ann", "bob"} {
		if err := book.Do(b.Context(), access.Act{User: user, At: noon, Before: noon}); err != nil {
			b.Fatal(err)
		}
	}
	for _, user := range []pim.UserID{"nobody", "bob"} {
		b.Run(string(user), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := book.Standing(b.Context(), user); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
