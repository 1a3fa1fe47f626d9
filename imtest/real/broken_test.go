package real

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/fault"
)

// An app is killed while its messages wait, or while their answers do not come. With a
// sound store nothing is lost or doubled; a broken store is noticed.
func TestBrokenStoresAreNoticed(t *testing.T) {
	inGo := func(wrap func(client.Store) client.Store) func(*phone) {
		return func(p *phone) { p.wrap = wrap }
	}
	noticed(t, func(*phone) {}, inGo(func(s client.Store) client.Store { return forgetful{s} }), inGo(func(s client.Store) client.Store { return renaming{s} }))
}

// noticed checks interrupted with the apps that sound makes, with one whose store has no outbox, and with one whose
// outbox has new IDs after each start.
func noticed(t *testing.T, sound, forgetful, renaming func(*phone)) {
	hole := fault.Path{BlackHole: true}
	for name, network := range map[string]fault.Conditions{
		"nothing is transmitted":  {Accept: fault.Refuse},
		"nothing is acknowledged": {Down: hole},
	} {
		t.Run(name, func(t *testing.T) {
			if found, err := interrupted(network, sound); err != nil || len(found) > 0 {
				t.Errorf("a sound store: %v, %v", found, err)
			}
		})
	}
	t.Run("no outbox", func(t *testing.T) {
		found, err := interrupted(fault.Conditions{Accept: fault.Refuse}, forgetful)
		if !errors.Is(err, errLacks) {
			t.Errorf("a lost message was not noticed: %v, %v", found, err)
		}
	})
	t.Run("new IDs", func(t *testing.T) {
		found, err := interrupted(fault.Conditions{Down: hole}, renaming)
		if err == nil && len(found) == 0 {
			t.Error("a doubled message was not noticed")
		}
	})
}

// errLacks says that a message is missing although one that was sent later has arrived.
var errLacks = errors.New("a message is missing")

// interrupted lets alice write over network, kills her app, lets it go on over a good
// network and returns what the checker found. spoil may break her store.
func interrupted(network fault.Conditions, spoil func(*phone)) (found []imtest.Violation, err error) {
	err = play(func(st *stage) {
		lab := imtest.NewLab(st, imtest.LabOptions{Moves: true})
		s := newSchedule(st, cast{host: labHost{lab}, tally: new(tally)}, lab.History())
		s.users = []pim.UserID{"alice", "bob"}
		conv := s.world.direct("alice", "bob")
		for _, u := range s.users {
			s.addPhone(u, "phone", st.TempDir())
		}
		alice, bob := s.phones[0], s.phones[1]
		alice.kill()
		spoil(alice)
		s.open(alice)
		s.say(alice, conv, "all is well")
		s.settle()
		if err := alice.proxy.Set(network); err != nil {
			st.Fatal(err)
		}
		if network.Accept == fault.Refuse {
			alice.proxy.Cut(fault.Both)
		}
		one, two := s.say(alice, conv, "one"), s.say(alice, conv, "two")
		if network.Accept != fault.Refuse {
			s.until(func() bool { return bob.got(one) && bob.got(two) })
		}
		alice.kill()
		s.heal()
		three := s.say(alice, conv, "three")
		s.until(func() bool { return bob.got(three) })
		if !bob.got(one) || !bob.got(two) {
			st.Fatalf("%w", errLacks)
		}
		s.settle()
		s.record()
		found = imtest.Check(lab.History())
	})
	return found, err
}

// say sends text from p and returns its ID when the app has taken it.
func (s *schedule) say(p *phone, c pim.ConversationID, text string) (id pim.ClientMessageID) {
	before := p.ids()
	p.do(command{Conversation: c, Text: text}, imtest.Send{Conversation: c, Kind: pim.EntryMessage})
	s.until(func() bool {
		for id = range p.ids() {
			if !before[id] {
				return true
			}
		}
		return false
	})
	return id
}

// until waits until cond holds.
func (s *schedule) until(cond func() bool) {
	t := time.NewTimer(longest)
	defer t.Stop()
	for {
		_, changed, err := s.world.state()
		if err != nil {
			s.fatal(err)
		}
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-t.C:
			s.fatal(errors.New("waited in vain"))
		}
	}
}

func (p *phone) ids() map[pim.ClientMessageID]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.sent)
}

func (p *phone) got(id pim.ClientMessageID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[id]
}

// forgetful is a store without an outbox.
type forgetful struct{ client.Store }

func (f forgetful) Apply(ctx context.Context, b *client.Batch) error {
	kept := *b
	kept.Outbox = nil
	return f.Store.Apply(ctx, &kept)
}

// renaming is a store that gives the messages of its outbox new IDs when it is loaded.
type renaming struct{ client.Store }

func (r renaming) Load(ctx context.Context) (client.Snapshot, error) {
	s, err := r.Store.Load(ctx)
	for i := range s.Outbox {
		s.Outbox[i].ID = pim.NewClientMessageID(time.Now())
	}
	return s, err
}
