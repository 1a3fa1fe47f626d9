package route

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/placement"
	"github.com/pim-im/pim/route/routepb"
)

// A node that joins takes its share of the conversations from the others, and one that drains leaves its own to them.
// Before the view changes, the node that writes a conversation tells the next one, which loads it: so the first
// messages there need no loads. Nothing depends on it. What is lost, late or wrong costs a load, now or later.

// Warmer is a Writer that can load conversations before anything asks for them. See conv.Writers.
type Warmer interface {
	Recent(ctx context.Context, keep func(pim.ConversationID) bool, most int) []pim.ConversationID
	Warm(ctx context.Context, conversations []pim.ConversationID) int
}

const (
	// One node tells another one of so many conversations, with so many bytes of IDs, at most.
	warmEach      = 4096
	warmEachBytes = 512 << 10
	// warmAll is how many conversations a node that joins asks for, of all others together, and how many one
	// that drains tells, to all others together.
	warmAll = 1 << 14

	warmAsks   = 8                      // nodes that are asked, or told, at a time
	warmCalls  = 4                      // requests of other nodes that are answered at a time
	warmWithin = time.Second            // a node that has not answered for so long is not waited for
	warmLooks  = 100 * time.Millisecond // a node that joins looks so often whether there are others to ask
)

var errWarming = pim.Errorf(pim.KindOverloaded, "the node loads conversations of others already")

// warming is what a Router needs to load conversations in time.
type warming struct {
	warmer Warmer        // nil: the node writes nothing, or can load nothing in time
	calls  chan struct{} // has the requests of other nodes that are being answered
}

func newWarming(w Writer) warming {
	warmer, _ := w.(Warmer)
	return warming{warmer, make(chan struct{}, warmCalls)}
}

// WarmUp loads what this node will write when it no longer drains: it asks the nodes that write these conversations
// now which of them are busy. It returns when ctx ends, since until then others may be heard of.
// A node whose Writer is no Warmer only waits.
func (r *Router) WarmUp(ctx context.Context) {
	var (
		asks    sync.WaitGroup
		loading sync.Mutex // one answer's conversations at a time
	)
	if r.warmer != nil {
		asked := map[string]bool{r.self: true}
		slots := make(chan struct{}, warmAsks)
		look := time.NewTicker(warmLooks)
		defer look.Stop()
		for wanted := warmAll; ctx.Err() == nil && wanted > 0; {
			now := r.bus.View()
			writers := placement.New(now, bus.RoleWriter).Nodes()
			for i := range now.Nodes {
				n := &now.Nodes[i]
				if asked[n.Name] || !n.Roles.Has(bus.RoleWriter) || n.Weight == 0 || n.Draining || wanted <= 0 {
					continue
				}
				asked[n.Name] = true
				most := min(max(warmAll/writers, 16), warmEach, wanted)
				wanted -= most
				asks.Go(func() {
					slots <- struct{}{}
					ids := r.askWhatComes(ctx, n.Name, most)
					<-slots
					loading.Lock()
					defer loading.Unlock()
					r.warmer.Warm(ctx, ids)
				})
			}
			select {
			case <-look.C:
			case <-ctx.Done():
			}
		}
	}
	<-ctx.Done()
	asks.Wait()
}

// askWhatComes returns what a node writes now and this one will write, at most so many conversations.
func (r *Router) askWhatComes(ctx context.Context, node string, most int) []pim.ConversationID {
	m := routepb.Warm{Joins: true, Most: uint32(most)}
	if self := r.bus.View().Node(r.self); self != nil {
		m.Weight, m.Roles = self.Weight, uint32(self.Roles)
	}
	var said routepb.Warmed
	if r.requestWarm(ctx, node, &m, &said) != nil {
		return nil
	}
	return conversationIDs(said.Conversations[:min(most, len(said.Conversations))])
}

// HandOver tells the other nodes which busy conversations they will write when this node drains, and waits until
// they have loaded them, or until ctx ends. The node must not drain yet.
func (r *Router) HandOver(ctx context.Context) {
	now := r.bus.View()
	if r.warmer == nil || len(now.Nodes) < 2 || ctx.Err() != nil {
		return
	}
	present, coming := placement.New(now, bus.RoleWriter), placement.New(with(now, r.self, func(n *bus.Node) { n.Draining = true }), bus.RoleWriter)
	if coming.Nodes() == 0 {
		return
	}
	type list struct {
		ids   []string
		bytes int
	}
	lists := make(map[string]*list)
	r.warmer.Recent(ctx, func(id pim.ConversationID) bool {
		if node, _ := present.Of(string(id)); node != r.self {
			return false
		}
		to, _ := coming.Of(string(id))
		l := lists[to]
		if l == nil {
			l = new(list)
			lists[to] = l
		}
		if len(l.ids) == warmEach || l.bytes+len(id) > warmEachBytes {
			return false
		}
		l.ids, l.bytes = append(l.ids, string(id)), l.bytes+len(id)
		return true
	}, warmAll)
	slots := make(chan struct{}, warmAsks)
	var told sync.WaitGroup
	for node, l := range lists {
		slots <- struct{}{}
		told.Go(func() {
			var said routepb.Warmed
			if r.requestWarm(ctx, node, &routepb.Warm{Conversations: l.ids}, &said) == nil {
				r.metrics.handedOver.Add(float64(len(l.ids)))
			}
			<-slots
		})
	}
	told.Wait()
}

// with returns v with a node changed, which is in it then.
func with(v *bus.View, node string, change func(*bus.Node)) *bus.View {
	nodes := slices.Clone(v.Nodes)
	i, ok := slices.BinarySearchFunc(nodes, node, func(n bus.Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		nodes = slices.Insert(nodes, i, bus.Node{Name: node})
	}
	change(&nodes[i])
	return &bus.View{Nodes: nodes}
}

func (r *Router) requestWarm(ctx context.Context, node string, m *routepb.Warm, said *routepb.Warmed) error {
	ctx, cancel := context.WithTimeout(ctx, warmWithin)
	defer cancel()
	body, err := m.MarshalVT()
	if err != nil {
		panic(err) // no message of ours fails
	}
	if body, err = r.bus.Request(ctx, node, bus.KindWarm, body); err != nil {
		return err
	}
	if err = said.UnmarshalVT(body); err != nil {
		r.metrics.malformed.Inc()
	}
	return err
}

// answerWarm answers a request of KindWarm.
func (r *Router) answerWarm(ctx context.Context, from string, body []byte) (said []byte, err error) {
	var m routepb.Warm
	if err := m.UnmarshalVT(body); err != nil {
		r.metrics.malformed.Inc()
		return nil, pim.Errorf(pim.KindInvalid, "the request cannot be decoded")
	}
	err = errStopping
	r.run(func() {
		select {
		case r.calls <- struct{}{}:
			defer func() { <-r.calls }()
		default:
			err = errWarming
			return
		}
		var a routepb.Warmed
		switch {
		case r.warmer == nil:
		case m.Joins:
			a.Conversations = r.whatComes(ctx, from, &m)
			r.metrics.handedOver.Add(float64(len(a.Conversations)))
		default:
			a.Loaded = uint32(r.warmer.Warm(ctx, conversationIDs(m.Conversations[:min(len(m.Conversations), warmEach)])))
		}
		said, err = a.MarshalVT()
	})
	return said, err
}

// whatComes returns which of the busy conversations that this node writes now will be another node's, which says of itself what is in m.
func (r *Router) whatComes(ctx context.Context, node string, m *routepb.Warm) (ids []string) {
	now := r.bus.View()
	present := placement.New(now, bus.RoleWriter)
	coming := placement.New(with(now, node, func(n *bus.Node) {
		n.Weight, n.Roles, n.Draining = m.Weight, bus.Role(m.Roles), false
	}), bus.RoleWriter)
	size := 0
	for _, id := range r.warmer.Recent(ctx, func(id pim.ConversationID) bool {
		at, _ := present.Of(string(id))
		to, _ := coming.Of(string(id))
		return at == r.self && to == node
	}, int(min(m.Most, warmEach))) {
		if size += len(id); size > warmEachBytes {
			break
		}
		ids = append(ids, string(id))
	}
	return ids
}

// conversationIDs returns those of names that are IDs of conversations.
func conversationIDs(names []string) []pim.ConversationID {
	ids := make([]pim.ConversationID, 0, len(names))
	for _, name := range names {
		if id := pim.ConversationID(name); id.Validate() == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
