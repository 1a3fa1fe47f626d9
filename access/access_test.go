package access_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// noon is a second at which tokens are issued.
const noon = pim.Millis(1_800_000_000_000)

func standing(t *testing.T, b *access.Book, user pim.UserID) *access.Standing {
	t.Helper()
	s, err := b.Standing(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func do(t *testing.T, b *access.Book, acts ...access.Act) {
	t.Helper()
	for _, a := range acts {
		if err := b.Do(t.Context(), a); err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
	}
}

// What was revoked is refused by whoever reads it anew, and nothing else is.
func TestStanding(t *testing.T) {
	old := access.Token{Device: "phone", Issued: noon - 1000}
	same := access.Token{Device: "phone", Issued: noon}
	late := access.Token{Device: "phone", Issued: noon + 1000}
	dateless := access.Token{Device: "phone"}
	named := access.Token{Device: "phone", Issued: noon + 1000, ID: access.HashOf("one")}
	other := access.Token{Device: "laptop", Issued: noon - 1000}
	all := []access.Token{old, same, late, dateless, named, other}
	at := noon + 500
	for _, test := range []struct {
		name    string
		acts    []access.Act
		refused []access.Token
	}{
		{"nothing", nil, nil},
		{"the user", []access.Act{{User: "alice", At: at, Before: at}}, []access.Token{old, same, dateless, other}},
		{"the user, from before", []access.Act{{User: "alice", At: at, Before: noon}}, []access.Token{old, dateless, other}},
		{"a device", []access.Act{{User: "alice", At: at, Before: at, Device: "phone"}}, []access.Token{old, same, dateless}},
		{"a token", []access.Act{{User: "alice", At: at, Token: "one"}}, []access.Token{named}},
		{"blocked", []access.Act{{User: "alice", At: at, Block: true}}, all},
		{"no longer blocked", []access.Act{{User: "alice", At: at, Block: true}, {User: "alice", At: at, Unblock: true}}, nil},
		{"no longer blocked, by a node whose clock is behind", []access.Act{{User: "alice", At: at, Block: true}, {User: "alice", At: at - 300, Unblock: true}}, nil},
		{"another user", []access.Act{{User: "bob", At: at, Block: true}}, nil},
		{"later and earlier", []access.Act{{User: "alice", At: at, Before: at}, {User: "alice", At: at + 1, Before: 1}}, []access.Token{old, same, dateless, other}},
	} {
		mem := storetest.NewMemory()
		do(t, access.New(mem), test.acts...)
		s := standing(t, access.New(mem), "alice") // as after a restart
		for _, token := range all {
			if err := s.Refuses(token); (err != nil) != slices.Contains(test.refused, token) || err != nil && pim.KindOf(err) != pim.KindRevoked {
				t.Errorf("%s: %+v is judged with %v", test.name, token, err)
			}
		}
	}
}

func TestActsThatCannotBeDone(t *testing.T) {
	b := access.New(storetest.NewMemory())
	for _, a := range []access.Act{
		{User: "alice", Before: 1},
		{User: "a/b", At: noon, Before: noon},
		{User: "alice", At: noon},
		{User: "alice", At: noon, Before: noon + 1},
		{User: "alice", At: noon, Before: noon, Device: "a:b"},
		{User: "alice", At: noon, Before: noon, Device: "a", Token: "b"},
		{User: "alice", At: noon, Block: true, Unblock: true},
		{User: "alice", At: noon, Block: true, Device: "a"},
		{User: "alice", At: noon, Token: string(make([]byte, access.MaxTokenID+1))},
	} {
		if err := b.Do(t.Context(), a); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// However much is revoked of a user one by one, what a login reads is bounded.
func TestActsOfAUserAreBounded(t *testing.T) {
	b := access.New(storetest.NewMemory())
	act := func(i int) access.Act {
		return access.Act{User: "alice", At: noon, Token: fmt.Sprintf("%0256d", i)}
	}
	for i := range access.MaxActs {
		do(t, b, act(i))
	}
	if err := b.Do(t.Context(), act(access.MaxActs)); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("one more: %v", err)
	}
	do(t, b, act(0), access.Act{User: "alice", At: noon, Before: noon}, access.Act{User: "alice", At: noon, Block: true})
	if s := standing(t, b, "alice"); len(s.Tokens) != access.MaxActs || s.Before != noon || !s.Blocked {
		t.Errorf("%d tokens, before %d, blocked %v", len(s.Tokens), s.Before, s.Blocked)
	}
}

// A node that has missed the bus finds in the journal what was done since it read it last, also what
// came into it a little late; the journal does not grow for ever.
func TestJournal(t *testing.T) {
	mem := storetest.NewMemory()
	b := access.New(mem)
	minute := pim.Millis(60_000)
	read := func(since pim.Millis) (users []pim.UserID, newest pim.Millis) {
		newest, err := b.Lately(t.Context(), since, func(u pim.UserID) { users = append(users, u) })
		if err != nil {
			t.Fatal(err)
		}
		return users, newest
	}
	for i, user := range []pim.UserID{"ann", "bob", "carol"} {
		do(t, b, access.Act{User: user, At: noon + pim.Millis(10*i)*minute, Block: true})
	}
	if users, newest := read(noon - minute); !slices.Equal(users, []pim.UserID{"ann", "bob", "carol"}) || newest != noon+20*minute {
		t.Errorf("%v up to %d", users, newest)
	}
	do(t, b, access.Act{User: "dave", At: noon + 19*minute, Block: true}) // its node was slow
	if users, newest := read(noon + 20*minute); !slices.Equal(users, []pim.UserID{"dave", "carol"}) || newest != noon+20*minute {
		t.Errorf("then %v up to %d", users, newest)
	}
	if users, newest := read(noon + 40*minute); users != nil || newest != noon+40*minute {
		t.Errorf("later %v up to %d", users, newest)
	}
	if err := b.Forget(t.Context(), noon+pim.Millis(access.Kept.Milliseconds())+15*minute); err != nil {
		t.Fatal(err)
	}
	if users, _ := read(noon - minute); !slices.Equal(users, []pim.UserID{"dave", "carol"}) {
		t.Errorf("left are %v", users)
	}
	if s := standing(t, b, "ann"); !s.Blocked {
		t.Error("what the journal has forgotten is not in force any more")
	}
}

// Many acts take several pages of the journal.
func TestALongJournal(t *testing.T) {
	b := access.New(storetest.NewMemory())
	for i := range 1100 {
		do(t, b, access.Act{User: pim.UserID(fmt.Sprintf("u%d", i)), At: noon + pim.Millis(i), Block: true})
	}
	seen := map[pim.UserID]bool{}
	if _, err := b.Lately(t.Context(), noon, func(u pim.UserID) { seen[u] = true }); err != nil || len(seen) != 1100 {
		t.Errorf("%d users: %v", len(seen), err)
	}
}

// Devices are listed with the hour in which they were here last, in pages, and with their sign-outs.
func TestDevices(t *testing.T) {
	mem := storetest.NewMemory()
	b := access.New(mem)
	at := noon - noon%access.UsedEvery + 5
	for i := range 250 {
		b.Note("alice", pim.DeviceID(fmt.Sprintf("d%03d", i)), at)
	}
	b.Note("alice", "d007", at+access.UsedEvery)
	b.Note("alice", "d007", at-access.UsedEvery)
	b.Note("bob", "phone", at)
	if page, more, err := b.Devices(t.Context(), "alice", "d240"); err != nil || more || len(page) != 9 {
		t.Errorf("what is not stored yet: %d devices, more %v: %v", len(page), more, err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, b, access.Act{User: "alice", Device: "d003", At: at, Before: at})
	var all []access.Device
	after, pages := pim.DeviceID(""), 0
	for more := true; more; pages++ {
		var page []access.Device
		var err error
		if page, more, err = b.Devices(t.Context(), "alice", after); err != nil || len(page) == 0 || len(page) > access.MaxDevices {
			t.Fatalf("a page of %d: %v", len(page), err)
		}
		after = page[len(page)-1].ID
		all = append(all, page...)
	}
	if len(all) != 250 || all[3] != (access.Device{ID: "d003", Used: at - 5, SignedOut: at}) || all[7].Used != at-5+access.UsedEvery {
		t.Errorf("%d devices, among them %+v, %+v", len(all), all[3], all[7])
	}
	for user, want := range map[pim.UserID]bool{"alice": false, "bob": true} {
		if has, err := b.HasDevice(t.Context(), user, "phone"); has != want || err != nil {
			t.Errorf("%s has the phone: %v, %v", user, has, err)
		}
	}
}

// What waits to be stored is bounded, and what is stored already is not written again.
func TestNotesAreBounded(t *testing.T) {
	mem := storetest.NewMemory()
	b := access.New(mem)
	for i := range 1<<14 + 100 {
		b.Note("alice", pim.DeviceID(fmt.Sprint(i)), noon)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for after := ""; ; {
		cells, err := mem.List(t.Context(), access.Used("alice"), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		n += len(cells)
		if len(cells) < 1000 {
			break
		}
		after = cells[len(cells)-1].Key
	}
	if n != 1<<14 {
		t.Errorf("%d devices are stored", n)
	}
}

func TestHashOf(t *testing.T) {
	if access.HashOf("") != 0 || access.HashOf("a") == access.HashOf("b") || access.HashOf("a") == 0 {
		t.Error("the hashes are wrong")
	}
}
