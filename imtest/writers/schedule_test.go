package writers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
)

// Whatever two writers of the same conversations do at the same time, whatever the store makes
// of it, and whenever one of them dies: all answers are right.
//
// PIM_SEED plays one schedule and tells its story, PIM_WRITERS says how many are played.
func TestSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(300), "PIM_WRITERS")
	v, failed := variant{}, 0
	for seed := first; seed < first+n && failed < 5; seed++ {
		wrong := v.play(t, seed, nil)
		if len(wrong) == 0 {
			continue
		}
		failed++
		t.Errorf("PIM_SEED=%d:\n%s", seed, strings.Join(wrong, "\n"))
		if n == 1 {
			_, story := v.story(t, seed)
			t.Log("\n" + story)
		}
	}
}

// Entries are trimmed as soon as they are in the log, also those of appends whose outcome the writer does not know yet, and
// can't find in the log any more. Each request has one entry nevertheless, and is told its seq.
func TestYoungTrims(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(300), "PIM_WRITERS")
	v, failed := variant{young: true}, 0
	for seed := first; seed < first+n && failed < 5; seed++ {
		if wrong := v.play(t, seed, nil); len(wrong) > 0 {
			failed++
			t.Errorf("PIM_SEED=%d:\n%s", seed, strings.Join(wrong, "\n"))
		}
	}
}

// story plays the run of a seed and returns what happened, too.
func (v variant) story(t *testing.T, seed uint64) (wrong []string, story string) {
	var (
		mu sync.Mutex
		b  strings.Builder
	)
	wrong = v.play(t, seed, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&b, format+"\n", args...)
	})
	return wrong, b.String()
}

// A seed says everything about a run: a failure can be looked at again.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	first := seeds.First(t)
	for seed := first; seed < first+20; seed++ {
		_, one := variant{}.story(t, seed)
		_, other := variant{}.story(t, seed)
		if one != other {
			a, b := strings.Split(one, "\n"), strings.Split(other, "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("PIM_SEED=%d: step %d is\n%s\nthe first time, and then\n%s", seed, i, a[i], b[i])
				}
			}
			t.Fatalf("PIM_SEED=%d: one run has %d steps, the other %d", seed, len(a), len(b))
		}
	}
}

// Stores and writers that are broken on purpose are noticed, each by the rule that it breaks.
func TestBroken(t *testing.T) {
	const enough = 10_000 // schedules; the rarest fault is in one of a hundred or so
	for _, test := range []struct {
		name string
		variant
		says string
	}{
		{"a block stays unheard", variant{broken: func(s store.Store) store.Store { return unfenced{s} }}, "ought to have been refused"},
		{"an effect is lost", variant{broken: func(s store.Store) store.Store { return effectless{s} }}, "ought to have been refused"},
		{"an effect is lost in a crash", variant{broken: func(s store.Store) store.Store { return forgetful{s} }}, "ought to have been refused"},
		{"a refusal from stale state", variant{broken: func(s store.Store) store.Store {
			return &staleEnds{Store: s, ends: make(map[store.Log]pim.Seq)}
		}}, "follows from no state"},
		{"a conflict is taken for a success", variant{broken: func(s store.Store) store.Store { return deaf{s} }}, "I1"},
		{"an answer before the outcome", variant{broken: func(s store.Store) store.Store { return hasty{s} }}, "I1"},
		{"an unknown outcome is taken for a success", variant{broken: func(s store.Store) store.Store { return careless{s} }}, "I1"},
		{"offline lists stay behind", variant{broken: func(s store.Store) store.Store { return cellless{s} }}, "offline list"},
		{"folds stay behind", variant{broken: func(s store.Store) store.Store { return foldless{s} }}, "fold"},
		{"a recall erases nothing", variant{broken: func(s store.Store) store.Store { return eraseless{s} }}, "erased false"},
		{"an erase stops half way", variant{broken: func(s store.Store) store.Store { return halfway{s} }}, "recalled false, erased true"},
		{"a trim takes one entry too many", variant{broken: func(s store.Store) store.Store { return greedy{s} }}, "nobody meant that"},
		{"an erase forgets the edits in folds", variant{broken: func(s store.Store) store.Store { return unfoldless{s} }, edits: true}, "fold"},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := seeds.First(t)
			for seed := first; seed < first+enough; seed++ {
				wrong := test.play(t, seed, nil)
				if slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, test.says) }) {
					t.Logf("noticed in schedule %d, PIM_SEED=%d: %s", seed-first+1, seed, wrong[0])
					return
				}
			}
			t.Errorf("not noticed in %d schedules", enough)
		})
	}
}

// Wrong answers are noticed, each by the rule that it breaks, although everything else is right.
func TestLies(t *testing.T) {
	const enough = 100 // schedules; not in each of them there is an answer that suits
	for _, test := range []struct {
		name  string
		suits func(*trip) bool
		lie   func(*trip)
		says  string
	}{
		{"another seq", (*trip).accepted, func(t *trip) { t.told.Seq++ }, "I1"},
		{"another time", (*trip).accepted, func(t *trip) { t.told.Server++ }, "I2"},
		{"twice the first", func(t *trip) bool {
			return t.told.Duplicate && t != t.trips[0] && t.trips[0].accepted() && !t.trips[0].told.Duplicate
		}, func(t *trip) { t.told.Duplicate = false }, "I2"},
		{
			"accepted and refused", func(t *trip) bool { return t.accepted() && t.conversation.IsGroup() && len(t.trips) == 1 },
			func(t *trip) { t.told = Told{Refused: true, Kind: pim.KindNotMember} }, "was refused",
		},
		{
			"refused after it was accepted", func(t *trip) bool { return t.told.Duplicate && t.trips[0].ended < t.sent && t.trips[0].accepted() },
			func(t *trip) { t.told = Told{Refused: true, Kind: pim.KindNotMember} }, "before it was sent",
		},
		{"refused for another reason", (*trip).refused, func(t *trip) { t.told.Kind = pim.KindConflict }, "follows from no state"},
		{
			"refused and accepted", func(t *trip) bool { return t.refused() && len(t.trips) == 1 },
			func(t *trip) { t.told = Told{Seq: 1} }, "is not in the log",
		},
		{"no answer", func(*trip) bool { return true }, func(t *trip) { t.ended = 0 }, "got no answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lied := false
			v := variant{lie: func(b *book) bool {
				for _, r := range b.requests {
					for _, t := range r.trips {
						if !lied && !t.dead && test.suits(t) {
							lied = true
							test.lie(t)
						}
					}
				}
				return lied
			}}
			first := seeds.First(t)
			for seed := first; seed < first+enough && !lied; seed++ {
				wrong := v.play(t, seed, nil)
				if lied && !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, test.says) }) {
					t.Errorf("PIM_SEED=%d: not noticed: %q", seed, wrong)
				}
			}
			if !lied {
				t.Errorf("no answer in %d schedules suited", enough)
			}
		})
	}
}

// staleEnds takes the last seq of a log from what the writer has read and written before.
type staleEnds struct {
	store.Store
	mu   sync.Mutex
	ends map[store.Log]pim.Seq
}

func (s *staleEnds) knows(log store.Log, end pim.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[log] = max(s.ends[log], end)
}

func (s *staleEnds) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	s.Store.Begin(ctx, writes, d, func(w *store.Write) {
		if w.Err == nil && len(w.Records) > 0 {
			s.knows(w.Log, w.After+pim.Seq(len(w.Records)))
		}
		done(w)
	})
}

func (s *staleEnds) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	for i := range reads {
		r := &reads[i]
		s.mu.Lock()
		if end, known := s.ends[r.Log]; known && r.WithLast && r.Err == nil {
			r.Last = end
		}
		s.mu.Unlock()
		if len(r.Records) > 0 {
			s.knows(r.Log, r.First+pim.Seq(len(r.Records))-1)
		}
	}
	return err
}

// unfenced raises no fence.
type unfenced struct{ store.Store }

func (s unfenced) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		bare := *w
		bare.Raise = false
		s.Store.Begin(ctx, []*store.Write{&bare}, d, func(*store.Write) {
			w.Err = bare.Err
			done(w)
		})
	}
}

// effectless writes nothing of an effect.
type effectless struct{ store.Store }

func (s effectless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if w.Raise {
			w.Err = nil
			done(w)
			continue
		}
		s.Store.Begin(ctx, []*store.Write{w}, d, done)
	}
}

// forgetful keeps no intents. Effects are written as ever, but if a writer dies after its own log's
// write and before the effect's, nobody knows that an effect is missing.
type forgetful struct{ store.Store }

func (s forgetful) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if len(w.Cells) == 1 && strings.HasPrefix(string(w.Cells[0].Partition), "~intents/") {
			w.Err = nil
			done(w)
			continue
		}
		s.Store.Begin(ctx, []*store.Write{w}, d, done)
	}
}

// deaf hears of no conflict.
type deaf struct{ store.Store }

func (s deaf) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	s.Store.Begin(ctx, writes, d, func(w *store.Write) {
		var conflict *store.ConflictError
		if errors.As(w.Err, &conflict) {
			w.Err = nil
		}
		done(w)
	})
}

// hasty says that a write is done before it is.
type hasty struct{ store.Store }

func (s hasty) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		s.Store.Begin(ctx, []*store.Write{copyOf(w)}, d, func(*store.Write) {})
		w.Err = nil
		done(w)
	}
}

// careless says that a write whose outcome is unknown has taken effect.
type careless struct{ store.Store }

func (s careless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	s.Store.Begin(ctx, writes, d, func(w *store.Write) {
		if errors.Is(w.Err, store.ErrUnknown) {
			w.Err = nil
		}
		done(w)
	})
}

// cellless writes no cells.
type foldless struct{ store.Store }

func (s foldless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(ctx, s.Store, writes, d, done, func(w *store.Write) {
		w.Cells = slices.DeleteFunc(slices.Clone(w.Cells), func(c store.CellWrite) bool { return strings.HasPrefix(string(c.Partition), "folds/") })
	})
}

type eraseless struct{ store.Store }

func (s eraseless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(ctx, s.Store, writes, d, done, func(w *store.Write) { w.Erase = nil })
}

// halfway carries out half of an erase.
type halfway struct{ store.Store }

func (s halfway) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(ctx, s.Store, writes, d, done, func(w *store.Write) {
		if erasesOnly(w) {
			w.Erase = w.Erase[:len(w.Erase)/2]
		}
	})
}

// unfoldless leaves the folds as they are when it carries out an erase.
type unfoldless struct{ store.Store }

func (s unfoldless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(ctx, s.Store, writes, d, done, func(w *store.Write) {
		if erasesOnly(w) {
			w.Cells = nil
		}
	})
}

// changed begins writes as change makes them.
func changed(ctx context.Context, s store.Store, writes []*store.Write, d store.Durability, done func(*store.Write), change func(*store.Write)) {
	for _, w := range writes {
		other := *w
		change(&other)
		s.Begin(ctx, []*store.Write{&other}, d, func(*store.Write) {
			w.Err = other.Err
			done(w)
		})
	}
}

type cellless struct{ store.Store }

func (s cellless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		bare := *w
		bare.Cells = nil
		s.Store.Begin(ctx, []*store.Write{&bare}, d, func(*store.Write) {
			w.Err = bare.Err
			done(w)
		})
	}
}
