package cql

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// answer is an answer of a node.
type answer int

func (a answer) Code() int     { return int(a) }
func (answer) Message() string { return "an answer" }
func (answer) Error() string   { return "an answer" }

// A node that has no table of settings is another database; one that refuses to tell them may tell them later.
func TestNoSettings(t *testing.T) {
	for err, want := range map[error]pim.Kind{
		answer(gocql.ErrCodeInvalid):      pim.KindUnsupported,
		answer(gocql.ErrCodeUnauthorized): pim.KindUnavailable,
		answer(gocql.ErrCodeOverloaded):   pim.KindUnavailable,
		context.DeadlineExceeded:          pim.KindUnavailable,
	} {
		if got := noSettings("10.0.0.1", err); pim.KindOf(got) != want || !errors.Is(got, err) {
			t.Errorf("%v: %v, want %v", err, got, want)
		} else if silent := !mistaken(err); errors.Is(got, errNotAsked) != silent {
			t.Errorf("%v: %v, taken for one that does not answer: %v", err, got, !silent)
		}
	}
}

// A node that does not answer hides no node that is not safe, and does not delay what is said of it.
func TestCheckAll(t *testing.T) {
	wrong := pim.Errorf(pim.KindInvalid, "a node is not safe")
	silent := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(askWithin):
		}
		return pim.Errorf(pim.KindUnavailable, "%w: a", errNotAsked)
	}
	for _, c := range []struct {
		name  string
		nodes string // s: silent, r: refuses at once, w: wrong, u, v: can't tell, at once and late, g: good
		want  pim.Kind
		after time.Duration
	}{
		{"no nodes", "", 0, 0},
		{"all are good", "ggg", 0, 0},
		{"one is silent", "gsg", pim.KindUnavailable, askWithin},
		{"one refuses", "grg", pim.KindUnavailable, 0},
		{"a wrong one behind others", "rsw", pim.KindInvalid, time.Second},
		{"one that can't tell, and a silent one", "gus", pim.KindUnsupported, askWithin},
		{"a silent one, and then one that can't tell", "gsv", pim.KindUnsupported, askWithin + time.Second},
		{"a wrong one before others", "wsr", pim.KindInvalid, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := checkAll(t.Context(), len(c.nodes), func(ctx context.Context, i int) error {
					switch c.nodes[i] {
					case 's':
						return silent(ctx)
					case 'r':
						return pim.Errorf(pim.KindUnavailable, "a node refuses")
					case 'u':
						return pim.Errorf(pim.KindUnsupported, "a node can't tell")
					case 'v':
						time.Sleep(askWithin + time.Second)
						return pim.Errorf(pim.KindUnsupported, "a node can't tell")
					case 'w':
						time.Sleep(time.Second) // behind the one that refuses
						return wrong
					}
					return nil
				})
				if c.want == 0 && err != nil || c.want != 0 && pim.KindOf(err) != c.want || c.want == pim.KindInvalid && !errors.Is(err, wrong) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if took := time.Since(begun); took != c.after {
					t.Errorf("it took %v, want %v", took, c.after)
				}
			})
		})
	}
}
