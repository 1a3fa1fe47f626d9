package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// timeout is a duration of a flag that says how long to wait: more than 0.
type timeout time.Duration

// UnmarshalText reads a duration like 30s.
func (t *timeout) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration like 30s or 2m", text)
	case d <= 0:
		return fmt.Errorf("%q leaves no time for an answer", text)
	}
	*t = timeout(d)
	return nil
}

func (t timeout) String() string { return time.Duration(t).String() }

// waitFlags are common to the commands that wait for the server.
type waitFlags struct {
	clientFlags
	Timeout timeout `name:"timeout" default:"30s" placeholder:"DURATION" help:"How long to wait for the server, from the start and again after each answer that is printed; connecting counts."`
}

// errLate is the cause with which a context ends when the server has kept a command waiting for too
// long.
var errLate = errors.New("too late")

// with opens a session and calls do with it. do's ctx ends when the connection is given up,
// and when the server has taken longer than f.Timeout: since the start, or since the session has printed an
// answer. The session's events are read meanwhile, so do must not read them.
func (f *waitFlags) with(ctx context.Context, open opener, do func(context.Context, *session) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(time.Duration(f.Timeout), func() { cancel(errLate) })
	defer timer.Stop()
	ses, err := open(ctx)
	if err != nil {
		return f.unreached(causeOf(ctx, err))
	}
	defer ses.Close()
	ses.timer, ses.timeout = timer, time.Duration(f.Timeout)
	go func() { cancel(ses.stopped()) }() // ends with the session
	if err = causeOf(ctx, do(ctx, ses)); err == errLate {
		err = ses.late(nil)
	}
	return err
}

// printing runs print, which prints an answer. The time that it takes does not count: whoever reads the
// output may be slow, such as a person with a pager. Then the server has the whole timeout again.
func (s *session) printing(print func() error) error {
	s.timer.Stop()
	defer s.timer.Reset(s.timeout)
	return print()
}

// waitsNoMore ends the timeout of with: what follows waits with one of its own. If the time is over
// already, it returns errLate.
func (s *session) waitsNoMore() error {
	if !s.timer.Stop() {
		return errLate
	}
	return nil
}

// reach opens a session, in f.Timeout at most. It is for commands that then read the session's events
// themselves, for as long as they like.
func (f *waitFlags) reach(ctx context.Context, open opener) (*session, error) {
	ctx, cancel := f.limit(ctx)
	defer cancel()
	ses, err := open(ctx)
	if err != nil {
		return nil, f.unreached(causeOf(ctx, err))
	}
	ses.timeout = time.Duration(f.Timeout)
	return ses, nil
}

// limit returns a context that ends with the cause errLate after f.Timeout.
func (f *waitFlags) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, time.Duration(f.Timeout), errLate)
}

// unreached says of a connection that did not come about in time which server it was to.
func (f *waitFlags) unreached(err error) error {
	if err == errLate {
		return pim.Errorf(pim.KindTimeout, "no connection to %s within %s", f.Server, f.Timeout)
	}
	return err
}

// pull is Pull for a command that reads the session's events itself: it waits for the timeout at most.
func (s *session) pull(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int, newestFirst bool) (client.Page, error) {
	limited, cancel := context.WithTimeoutCause(ctx, s.timeout, errLate)
	defer cancel()
	page, err := s.Pull(limited, conv, from, to, limit, newestFirst)
	if err = causeOf(limited, err); err == errLate {
		err = s.late(nil)
	}
	return page, err
}

// pullFirst is pull for a command that follows nothing so far: the session's only events are those of the
// connection. It reads them meanwhile, so that an error tells why there is no answer.
func (s *session) pullFirst(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int, newestFirst bool) (client.Page, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	read := make(chan struct{})
	defer func() { cancel(nil); <-read }()
	go func() {
		defer close(read)
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-s.Events():
				if !ok {
					return
				}
				if e, is := e.(client.StateEvent); is {
					s.delays.noteLink(e)
					if err := s.over(e); err != nil {
						cancel(err)
					}
				}
			}
		}
	}()
	page, err := s.pull(ctx, conv, from, to, limit, newestFirst)
	return page, causeOf(ctx, err)
}

// waitFor waits for the answer to m, for as long as ctx allows. Meanwhile another goroutine must read
// the events, see stopped.
func (s *session) waitFor(ctx context.Context, m *client.Sending) (client.Sent, error) {
	sent, err := m.Wait(ctx)
	if err = causeOf(ctx, err); err == errLate {
		err = s.late(m)
	}
	return sent, err
}

// late returns the error of an answer that has not come within the timeout. If it is the one to the
// message m (not nil), the error says that m may be stored.
func (s *session) late(m *client.Sending) error {
	var id pim.ClientMessageID
	if m != nil {
		id = m.ID()
	}
	why := s.delays.of(id)
	if why != nil {
		why = withServerHint(why, s.server)
	}
	switch {
	case m == nil && why == nil:
		return pim.Errorf(pim.KindTimeout, "no answer within %s", s.timeout)
	case m == nil:
		return pim.Errorf(pim.KindTimeout, "no answer within %s: %w", s.timeout, why)
	case why == nil:
		return pim.Errorf(pim.KindTimeout, "no answer within %s; the message may have been stored all the same", s.timeout)
	}
	return pim.Errorf(pim.KindTimeout, "not stored within %s: %w; it may have been stored all the same", s.timeout, why)
}

// stopped reads events until the connection is given up, and returns why; nil
// if the client was closed.
func (s *session) stopped() error {
	for e := range s.Events() {
		switch e := e.(type) {
		case client.SendEvent:
			s.delays.note(e)
		case client.StateEvent:
			s.delays.noteLink(e)
			if err := s.over(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// causeOf returns the cause of ctx's end if err is there only because ctx ended;
// otherwise it returns err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(err, ctx.Err()) && cause != nil {
		return cause
	}
	return err
}

// delays holds the reasons why messages are not stored yet.
type delays struct {
	mu   sync.Mutex
	why  map[pim.ClientMessageID]*pim.Error
	link error // why there is no connection; nil if there is one
}

// noteLink notes the state of the connection.
func (d *delays) noteLink(e client.StateEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.State {
	case client.Connected:
		d.link = nil
	case client.Waiting:
		d.link = e.Err
	}
}

func (d *delays) note(e client.SendEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case e.State == client.Delayed && e.Err != nil:
		if d.why == nil {
			d.why = make(map[pim.ClientMessageID]*pim.Error)
		}
		d.why[e.ID] = e.Err
	case e.State != client.InFlight:
		delete(d.why, e.ID)
	}
}

// of returns why the message with this ID is delayed: why there is no connection, or
// what the server said of the message last; nil if neither is known.
func (d *delays) of(id pim.ClientMessageID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != nil {
		return d.link
	}
	if why := d.why[id]; why != nil {
		return why
	}
	return nil
}
