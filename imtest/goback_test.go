package imtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
)

// hang bounds the wait for an event that must come, even on the slowest machine.
const hang = 5 * time.Minute

// site is a server on a real directory, which can be replaced by another directory.
type site struct {
	t      *testing.T
	config server.Config
	server *server.Server
	keys   *account.Keys
}

func newSite(t *testing.T) *site {
	s := &site{t: t, config: server.Defaults()}
	s.config.Data, s.config.Listen, s.config.ListenTCP = filepath.Join(t.TempDir(), "data"), loopback.Own()+":0", ""
	s.config.DrainWindow, s.config.ReconnectWindow = 0, 10*time.Millisecond
	s.config.Consent = false                          // people here are strangers
	s.config.ShedTarget = 0                           // the machine may be too busy
	s.config.UserLogins, s.config.DeviceLogins = 0, 0 // the devices come back after some milliseconds
	s.start()
	s.config.Listen = s.server.Addr()
	keys, err := account.LoadKeys(s.config.KeysPath())
	s.must(err)
	s.keys = keys
	t.Cleanup(s.stop)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	var err error
	s.server, err = server.New(s.config, server.Options{Logger: slog.New(slog.DiscardHandler)})
	s.must(err)
	s.must(s.server.Start(s.t.Context()))
}

func (s *site) stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.t.Error(err)
	}
	s.server = nil
}

// copied returns a copy of the server's directory, made while it is stopped.
func (s *site) copied() string {
	s.t.Helper()
	s.stop()
	dir := filepath.Join(s.t.TempDir(), "copy")
	s.must(os.CopyFS(dir, os.DirFS(s.config.Data)))
	s.must(os.Chmod(filepath.Join(dir, filepath.Base(s.config.KeysPath())), 0o600))
	s.start()
	return dir
}

// becomes stops the server, replaces its directory by a copy of dir, but keeps its
// keys, calls operator to do what an operator does, and starts the server.
func (s *site) becomes(dir string, operator func()) {
	s.t.Helper()
	s.stop()
	keys, err := os.ReadFile(s.config.KeysPath())
	s.must(err)
	s.must(os.RemoveAll(s.config.Data))
	s.must(os.CopyFS(s.config.Data, os.DirFS(dir)))
	_ = os.Remove(s.config.KeysPath()) // others may read the copied file, and writing it anew would not change that
	s.must(os.WriteFile(s.config.KeysPath(), keys, 0o600))
	operator()
	s.start()
}

func (s *site) restores() {
	s.t.Helper()
	_, err := server.Restore(s.t.Context(), s.config, slog.New(slog.DiscardHandler))
	s.must(err)
}

// phone is a device with the SDK.
type phone struct {
	site   *site
	user   pim.UserID
	name   pim.DeviceID
	store  client.Store
	client *client.Client
	done   chan struct{}

	mu      sync.Mutex
	rewound map[pim.ConversationID]pim.Seq
	handed  map[pim.ConversationID]map[pim.Seq]string // texts by seq, as an app keeps them
}

func (s *site) phone(user pim.UserID, name pim.DeviceID, store client.Store) *phone {
	p := &phone{
		site: s, user: user, name: name, store: store,
		rewound: make(map[pim.ConversationID]pim.Seq), handed: make(map[pim.ConversationID]map[pim.Seq]string),
	}
	p.opens()
	s.t.Cleanup(p.closes)
	return p
}

func (p *phone) opens() {
	p.site.t.Helper()
	c, err := client.Open(p.site.t.Context(), client.Options{
		Server: "http://" + p.site.config.Listen, User: p.user, Device: p.name, Store: p.store,
		Token: func(context.Context) (string, error) {
			return p.site.keys.Issue(p.user, time.Hour, time.Now())
		},
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
	})
	p.site.must(err)
	p.client, p.done = c, make(chan struct{})
	go p.listens()
}

func (p *phone) closes() {
	if p.client != nil {
		p.client.Close()
		<-p.done
		p.client = nil
	}
}

// listens is an app that keeps the texts by their seqs.
func (p *phone) listens() {
	defer close(p.done)
	for ev := range p.client.Events() {
		p.mu.Lock()
		switch ev := ev.(type) {
		case client.EntryEvent:
			of := p.handed[ev.Entry.Conversation]
			if of == nil {
				of = make(map[pim.Seq]string)
				p.handed[ev.Entry.Conversation] = of
			}
			if _, twice := of[ev.Entry.Seq]; twice {
				p.site.t.Errorf("%s/%s was handed seq %d of %s twice", p.user, p.name, ev.Entry.Seq, ev.Entry.Conversation)
			}
			of[ev.Entry.Seq] = string(ev.Entry.Payload)
		case client.RewoundEvent:
			p.rewound[ev.Conversation] = ev.After
			for seq := range p.handed[ev.Conversation] {
				if seq > ev.After {
					delete(p.handed[ev.Conversation], seq)
				}
			}
		}
		p.mu.Unlock()
	}
}

func (p *phone) sends(c pim.ConversationID, text string) {
	p.site.t.Helper()
	s, err := p.client.Send(p.site.t.Context(), c, []byte(text))
	p.site.must(err)
	ctx, cancel := context.WithTimeout(p.site.t.Context(), hang)
	defer cancel()
	_, err = s.Wait(ctx)
	p.site.must(err)
}

func (p *phone) creates(members ...pim.UserID) pim.ConversationID {
	p.site.t.Helper()
	s, err := p.client.CreateGroup(p.site.t.Context(), members)
	p.site.must(err)
	ctx, cancel := context.WithTimeout(p.site.t.Context(), hang)
	defer cancel()
	sent, err := s.Wait(ctx)
	p.site.must(err)
	return sent.Conversation
}

// shows returns the texts of c as the device displays them, with their seqs.
func (p *phone) shows(c pim.ConversationID) (list []string) {
	p.site.t.Helper()
	entries, err := p.client.Messages(p.site.t.Context(), c, 1000)
	p.site.must(err)
	for _, e := range entries {
		if e.Kind == pim.EntryMessage {
			list = append(list, fmt.Sprintf("%d %s", e.Seq, e.Payload))
		}
	}
	return list
}

// town is what the stories are played with.
type town struct {
	*site
	alice, laptop, bob *phone
	direct, old, young pim.ConversationID // young: a group that was made after the backup
	texts              map[pim.ConversationID][]string
}

func newTown(t *testing.T, wrap func(client.Store) client.Store) *town {
	if wrap == nil {
		wrap = func(s client.Store) client.Store { return s }
	}
	s := newSite(t)
	file, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "alice.db"))
	s.must(err)
	t.Cleanup(func() { file.Close() })
	w := &town{site: s, direct: pim.Direct("alice", "bob"), texts: make(map[pim.ConversationID][]string)}
	w.alice = s.phone("alice", "phone", wrap(file))
	w.laptop = s.phone("alice", "laptop", wrap(client.NewMemory(client.MemoryOptions{})))
	w.bob = s.phone("bob", "phone", wrap(client.NewMemory(client.MemoryOptions{})))
	w.old = w.alice.creates("bob")
	return w
}

func (w *town) phones() []*phone { return []*phone{w.alice, w.laptop, w.bob} }

// talk sends two messages from every phone.
func (w *town) talk(c pim.ConversationID, about string) {
	w.t.Helper()
	for i := range 2 {
		for _, p := range w.phones() {
			text := fmt.Sprintf("%s %d, says %s's %s", about, i, p.user, p.name)
			p.sends(c, text)
			w.texts[c] = append(w.texts[c], text)
		}
	}
}

// wrong says what is not yet as it has to be, "" if all is well: every text is shown
// once, in one order, on all devices, and their apps have the same. The outboxes are
// empty.
func (w *town) wrong() string {
	for c, want := range w.texts {
		first := w.alice.shows(c)
		var texts []string
		for _, line := range first {
			_, text, _ := strings.Cut(line, " ")
			texts = append(texts, text)
		}
		slices.Sort(texts)
		if sorted := slices.Sorted(slices.Values(want)); !slices.Equal(texts, sorted) {
			return fmt.Sprintf("%s: alice shows %q, want %q", c, texts, sorted)
		}
		for _, p := range w.phones() {
			if got := p.shows(c); !slices.Equal(got, first) {
				return fmt.Sprintf("%s: %s's %s shows %q, alice's phone %q", c, p.user, p.name, got, first)
			}
			if got := p.app(c); !slices.Equal(got, bySeqOf(first)) {
				return fmt.Sprintf("%s: the app of %s's %s has %q, of %q", c, p.user, p.name, got, first)
			}
		}
	}
	for _, p := range w.phones() {
		if out, err := p.client.Outbox(w.t.Context()); err != nil || len(out) > 0 {
			return fmt.Sprintf("%s's %s has %d messages in its outbox, %v", p.user, p.name, len(out), err)
		}
	}
	for _, p := range []*phone{w.alice, w.laptop} {
		if s := p.client.Setting("contact/bob"); string(s.Value) != "Bob" {
			return fmt.Sprintf("alice's %s has the contact %+v", p.name, s)
		}
	}
	return ""
}

// app returns what the app has kept of c, by seq.
func (p *phone) app(c pim.ConversationID) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seq, text := range p.handed[c] {
		if text != "" {
			list = append(list, fmt.Sprintf("%d %s", seq, text))
		}
	}
	return bySeqOf(list)
}

func bySeqOf(lines []string) []string {
	seq := func(line string) (n int) {
		_, _ = fmt.Sscan(line, &n)
		return n
	}
	return slices.SortedFunc(slices.Values(lines), func(a, b string) int { return seq(a) - seq(b) })
}

// settles waits until wrong finds nothing.
func (w *town) settles() {
	w.t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		wrong := w.wrong()
		if wrong == "" {
			return
		}
		if time.Now().After(end) {
			w.t.Fatal(wrong)
		}
	}
}

func (w *town) says(p *phone, c pim.ConversationID, text string) {
	w.t.Helper()
	p.sends(c, text)
	w.texts[c] = append(w.texts[c], text)
}

// loses plays what happens before the server goes back: it is backed up, and then gets
// what the backup does not have.
func (w *town) loses() (backup string) {
	w.t.Helper()
	w.talk(w.direct, "before the backup")
	w.talk(w.old, "before the backup, all")
	backup = w.copied()
	w.talk(w.direct, "after the backup")
	w.talk(w.old, "after the backup, all")
	w.young = w.alice.creates("bob")
	w.bob.syncs()
	w.talk(w.young, "in the new group")
	s, err := w.alice.client.SetContact(w.t.Context(), "bob", []byte("Bob"))
	w.must(err)
	ctx, cancel := context.WithTimeout(w.t.Context(), hang)
	defer cancel()
	_, err = s.Wait(ctx)
	w.must(err)
	w.settles()
	return backup
}

// Whatever happened to the server: every message that a device still has comes back
// once, all devices show one order, and the apps were told.
func TestServerThatWentBack(t *testing.T) {
	for name, back := range map[string]func(w *town, backup string){
		"restored": func(w *town, backup string) { w.becomes(backup, w.restores) },
		"restored without a word": func(w *town, backup string) {
			// The server stores acknowledgements within a second, and its Welcome tells
			// each phone the serial of the last one stored. The backup has a lower
			// serial: by that the phones notice.
			for _, p := range w.phones() {
				p.closes()
				p.opens()
				p.syncs()
			}
			w.becomes(backup, func() {})
		},
		"wiped": func(w *town, _ string) { w.becomes(w.t.TempDir(), func() {}) },
		"another server": func(w *town, _ string) {
			other := newSite(w.t)
			stranger := other.elsewhere()
			w.becomes(stranger, func() {})
			w.texts[w.direct] = append(w.texts[w.direct], "on the other server 0", "on the other server 1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, nil)
			back(w, w.loses())
			w.says(w.bob, w.direct, "right after it")
			w.settles()
			for _, p := range w.phones() {
				if _, told := p.rewoundTo(w.young); !told {
					t.Errorf("%s's %s was not told that the new group was lost", p.user, p.name)
				}
			}
			w.says(w.alice, w.young, "and it goes on")
			w.settles()
		})
	}
}

func (p *phone) syncs() {
	p.site.t.Helper()
	ctx, cancel := context.WithTimeout(p.site.t.Context(), hang)
	defer cancel()
	p.site.must(p.client.Synced(ctx))
}

func (p *phone) rewoundTo(c pim.ConversationID) (pim.Seq, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq, ok := p.rewound[c]
	return seq, ok
}

// elsewhere lets alice and bob talk on another server, with other devices, and
// returns its directory.
func (s *site) elsewhere() string {
	s.t.Helper()
	tablet := s.phone("alice", "tablet", nil)
	for i := range 2 {
		tablet.sends(pim.Direct("alice", "bob"), fmt.Sprint("on the other server ", i))
	}
	tablet.closes()
	return s.copied()
}

// A device that comes back after others have brought back the same messages adds
// nothing.
func TestServerThatWentBackAndLateDevices(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	backup := w.loses()
	w.laptop.closes()
	w.alice.closes()
	w.becomes(backup, w.restores)
	w.says(w.bob, w.direct, "only bob is there")
	w.laptop.opens() // it brings back what the phone has sent as well
	w.says(w.laptop, w.direct, "and the laptop")
	w.alice.opens()
	w.settles()
}

// Devices that are broken on purpose do not pass the checks of the tests above.
func TestBrokenDevicesAreCaught(t *testing.T) {
	for name, wrap := range map[string]func(client.Store) client.Store{
		"what was lost is not kept":        func(s client.Store) client.Store { return keepsNothing{s} },
		"what was lost stays where it was": func(s client.Store) client.Store { return neverRewinds{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, wrap)
			w.becomes(w.loses(), w.restores)
			for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
				if _, told := w.alice.rewoundTo(w.young); told {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the server that went back was not noticed")
				}
			}
			for _, p := range w.phones() {
				p.syncs()
			}
			if w.wrong() == "" {
				t.Error("nothing was found")
			}
		})
	}
}

type keepsNothing struct{ client.Store }

func (s keepsNothing) Former(context.Context, pim.ConversationID, int, int) ([]pim.Entry, error) {
	return nil, nil
}

type neverRewinds struct{ client.Store }

func (s neverRewinds) Apply(ctx context.Context, b *client.Batch) error {
	kept := *b
	kept.Rewinds = nil
	return s.Store.Apply(ctx, &kept)
}
