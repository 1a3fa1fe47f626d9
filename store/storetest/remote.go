package storetest

import (
	"context"
	"encoding/gob"
	"errors"
	"net"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Serve serves s to everybody who dials l, until l is closed and all of them are gone. It
// lets several processes of a test share one store. Each write of a Begin is a call of its
// own, so its outcome is told as soon as it is known. A call is carried out to its end even
// if the process that made it has died.
func Serve(l net.Listener, s store.Store) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conns.Go(func() { serve(c, s) })
	}
}

func serve(c net.Conn, s store.Store) {
	defer c.Close()
	var calls sync.WaitGroup
	defer calls.Wait()
	var mu sync.Mutex // of out
	in, out := gob.NewDecoder(c), gob.NewEncoder(c)
	for {
		var r request
		if in.Decode(&r) != nil {
			return
		}
		calls.Go(func() {
			a := r.carryOut(s)
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(a) // if it fails, the client is gone
		})
	}
}

// request is one call of a Store's method, and reply its result.
type request struct {
	ID         uint64
	Method     string
	Write      *store.Write
	Durability store.Durability
	Reads      []store.Read
	Cells      []cellName
	Partition  store.Partition
	Key        string
	Count      int
}

type cellName struct {
	Partition store.Partition
	Key       string
}

type reply struct {
	ID     uint64
	Fault  *fault
	Reads  []store.Read // without their errors
	Cells  []store.Cell // of Get and List
	Faults []fault      // of Read and Get, one for each of Reads or Cells; without a text: there is none
}

func (r *request) carryOut(s store.Store) *reply {
	ctx, a := context.Background(), &reply{ID: r.ID}
	var err error
	switch r.Method {
	case "Begin":
		if err = store.Commit(ctx, s, []*store.Write{r.Write}, r.Durability); err == nil {
			err = r.Write.Err
		}
	case "Read":
		_ = s.Read(ctx, r.Reads) // each has its own error
		for i := range r.Reads {
			done := r.Reads[i]
			a.Faults = append(a.Faults, fault{})
			if f := faultOf(done.Err); f != nil {
				a.Faults[i] = *f
			}
			done.Err = nil
			a.Reads = append(a.Reads, done)
		}
	case "Get":
		gets := make([]store.Get, len(r.Cells))
		for i, c := range r.Cells {
			gets[i] = store.Get{Partition: c.Partition, Key: c.Key}
		}
		_ = s.Get(ctx, gets) // each has its own error
		for i := range gets {
			a.Cells, a.Faults = append(a.Cells, gets[i].Cell), append(a.Faults, fault{})
			if f := faultOf(gets[i].Err); f != nil {
				a.Faults[i] = *f
			}
		}
	case "Barrier":
		err = s.Barrier(ctx)
	case "Health":
		err = s.Health()
	case "List":
		a.Cells, err = s.List(ctx, r.Partition, r.Key, r.Count)
	}
	a.Fault = faultOf(err)
	return a
}

// fault is an error of a Store, as it crosses the connection.
type fault struct {
	Conflict *store.ConflictError
	Kind     pim.Kind
	Text     string
	Unknown  bool // store.ErrUnknown is in the chain
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error(), Unknown: errors.Is(err, store.ErrUnknown)}
	var e *pim.Error
	if !errors.As(err, &f.Conflict) && errors.As(err, &e) {
		f.Kind, f.Text = e.Kind, e.Text
	}
	return f
}

func (f *fault) err() error {
	switch {
	case f == nil:
		return nil
	case f.Conflict != nil:
		return f.Conflict
	case f.Unknown:
		return &pim.Error{Kind: f.Kind, Text: f.Text, Err: store.ErrUnknown}
	}
	return &pim.Error{Kind: f.Kind, Text: f.Text}
}

// remote is the store of a Serve in another process, or in this one.
type remote struct {
	conn  net.Conn
	gone  chan struct{} // closed when listen ends
	calls sync.WaitGroup

	mu     sync.Mutex // guards what follows, and writing to conn
	out    *gob.Encoder
	waits  map[uint64]func(*reply) // calls under way; each function is called once
	newest uint64
	closed bool
	broken bool // the connection has ended
}

// Dial returns the store that a Serve serves at an address. Close ends the connection, and
// leaves the store open. If the connection breaks, the outcomes of the writes under way are
// unknown.
func Dial(network, address string) (store.Store, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	r := &remote{conn: conn, gone: make(chan struct{}), out: gob.NewEncoder(conn), waits: make(map[uint64]func(*reply))}
	go r.listen()
	return r, nil
}

// listen hands replies to those who wait for them.
func (r *remote) listen() {
	defer close(r.gone)
	in := gob.NewDecoder(r.conn)
	for {
		var a reply
		if in.Decode(&a) != nil {
			break
		}
		r.mu.Lock()
		then := r.waits[a.ID]
		delete(r.waits, a.ID)
		r.mu.Unlock()
		then(&a)
		r.calls.Done()
	}
	r.mu.Lock()
	r.broken = true
	waits := r.waits
	r.waits = nil
	r.mu.Unlock()
	for id, then := range waits {
		then(&reply{ID: id, Fault: &fault{Kind: pim.KindUnavailable, Text: "the connection to the store broke", Unknown: true}})
		r.calls.Done()
	}
}

// call sends q. then is called once, with the reply or with what went wrong.
func (r *remote) call(q *request, then func(*reply)) {
	if err := r.send(q, then); err != nil {
		then(&reply{Fault: faultOf(err)})
	}
}

// send sends q, or returns why it does not.
func (r *remote) send(q *request, then func(*reply)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.broken {
		return pim.Errorf(pim.KindUnavailable, "the connection to the store has ended")
	}
	r.newest++
	q.ID = r.newest
	r.calls.Add(1)
	r.waits[q.ID] = then
	if r.out.Encode(q) != nil {
		r.conn.Close() // listen tells everybody who waits
	}
	return nil
}

// ask makes a call that only reads, and waits for the reply.
func (r *remote) ask(ctx context.Context, q *request) (*reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answered := make(chan *reply, 1)
	r.call(q, func(a *reply) { answered <- a })
	select {
	case a := <-answered:
		return a, a.Fault.err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Begin implements store.Store.
func (r *remote) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if w.Err = ctx.Err(); w.Err != nil {
			done(w)
			continue
		}
		sent := *w
		sent.Owner = nil
		r.call(&request{Method: "Begin", Write: &sent, Durability: d}, func(a *reply) {
			w.Err = a.Fault.err()
			done(w)
		})
	}
}

// Read implements store.Store.
func (r *remote) Read(ctx context.Context, reads []store.Read) error {
	q := &request{Method: "Read"}
	for _, x := range reads {
		q.Reads = append(q.Reads, store.Read{Log: x.Log, From: x.From, To: x.To, Limit: x.Limit, WithLast: x.WithLast})
	}
	a, err := r.ask(ctx, q)
	first := err
	for i := range reads {
		x := &reads[i]
		x.First, x.Records, x.Last, x.Fence, x.Front, x.Err = 0, nil, 0, 0, 0, err
		if err == nil {
			done := &a.Reads[i]
			x.First, x.Records, x.Last, x.Fence, x.Front = done.First, done.Records, done.Last, done.Fence, done.Front
			if a.Faults[i].Text != "" {
				x.Err = a.Faults[i].err()
			}
		}
		if first == nil {
			first = x.Err
		}
	}
	return first
}

// Get implements store.Store.
func (r *remote) Get(ctx context.Context, gets []store.Get) error {
	q := &request{Method: "Get"}
	for i := range gets {
		q.Cells = append(q.Cells, cellName{gets[i].Partition, gets[i].Key})
	}
	a, err := r.ask(ctx, q)
	first := err
	for i := range gets {
		g := &gets[i]
		if g.Cell, g.Err = (store.Cell{}), err; err == nil {
			if g.Cell = a.Cells[i]; a.Faults[i].Text != "" {
				g.Err = a.Faults[i].err()
			}
		}
		if first == nil {
			first = g.Err
		}
	}
	return first
}

// Barrier implements store.Store.
func (r *remote) Barrier(ctx context.Context) error {
	_, err := r.ask(ctx, &request{Method: "Barrier"})
	return err
}

// Health implements store.Store.
func (r *remote) Health() error {
	_, err := r.ask(context.Background(), &request{Method: "Health"})
	return err
}

// List implements store.Store.
func (r *remote) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	a, err := r.ask(ctx, &request{Method: "List", Partition: p, Key: after, Count: limit})
	if err != nil {
		return nil, err
	}
	return a.Cells, nil
}

// Close implements store.Store.
func (r *remote) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		return pim.Errorf(pim.KindUnavailable, "the connection to the store has ended")
	}
	r.calls.Wait()
	r.conn.Close()
	<-r.gone
	return nil
}
