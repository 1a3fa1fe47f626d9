package cql

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// Two copies of five have died, and a QUORUM read waits for one of them. It is sent again with SERIAL after a
// second; those after it begin so, until it is time to try QUORUM again.
func TestReadsWhenCopiesDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []gocql.Consistency
		read := func(dead, slow bool) readAt {
			return func(ctx context.Context, c gocql.Consistency, came func()) error {
				asked = append(asked, c)
				switch {
				case c == gocql.Quorum && dead:
					<-ctx.Done()
					return ctx.Err()
				case slow:
					time.Sleep(2 * readWithin)
				}
				came()
				return ctx.Err()
			}
		}
		var d doubt
		for _, step := range []struct {
			name       string
			pass       time.Duration
			dead, slow bool
			want       []gocql.Consistency
			takes      time.Duration
		}{
			{name: "all is well", want: []gocql.Consistency{gocql.Quorum}},
			{name: "copies have died", dead: true, want: []gocql.Consistency{gocql.Quorum, gocql.Serial}, takes: readWithin},
			{name: "it is known", dead: true, want: []gocql.Consistency{gocql.Serial}},
			{name: "after a while", pass: doubtFor, dead: true, want: []gocql.Consistency{gocql.Quorum, gocql.Serial}, takes: readWithin},
			{name: "they are noticed", pass: doubtFor, want: []gocql.Consistency{gocql.Quorum}},
			{name: "all of it is slow", dead: true, slow: true, want: []gocql.Consistency{gocql.Quorum, gocql.Serial}, takes: 3 * readWithin},
			{name: "which is no reason to ask for more", want: []gocql.Consistency{gocql.Quorum}},
		} {
			time.Sleep(step.pass)
			asked = nil
			begun := time.Now()
			if err := d.read(t.Context(), read(step.dead, step.slow)); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			if took := time.Since(begun); !slices.Equal(asked, step.want) || took != step.takes {
				t.Errorf("%s: %v in %v, want %v in %v", step.name, asked, took, step.want, step.takes)
			}
		}
	})
}

// A read of which something has come may take its time. A read ends with its caller's context, and an error is the caller's.
func TestReadsThatAreNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doubt
		times := 0
		err := d.read(t.Context(), func(ctx context.Context, _ gocql.Consistency, came func()) error {
			times++
			came()
			time.Sleep(10 * readWithin)
			return ctx.Err()
		})
		if err != nil || times != 1 {
			t.Errorf("a long read: %v after %d times", err, times)
		}
		broken := errors.New("broken")
		if err := d.read(t.Context(), func(context.Context, gocql.Consistency, func()) error { return broken }); err != broken {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), readWithin/2)
		defer cancel()
		times = 0
		err = d.read(ctx, func(ctx context.Context, _ gocql.Consistency, _ func()) error {
			times++
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || times != 1 {
			t.Errorf("%v after %d times", err, times)
		}
	})
}
