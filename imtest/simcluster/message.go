package simcluster

import "time"

// conversation is one that is played.
type conversation struct {
	*world
	key     string
	members []member
	writer  int            // the node that has written last; -1: none
	queues  map[int]*queue // by node
}

// queue is what waits for a node that writes the conversation.
type queue struct {
	waiting []*request
	busy    bool // a commit is under way
}

// request is a message on its way to a writer.
type request struct {
	gateway  int
	answered bool
}

// send sends a message of any member, and plans the next one.
func (c *conversation) send() {
	if c.sent == c.Messages {
		return
	}
	c.sent++
	c.submit(&request{gateway: c.alive(c.random.IntN(c.Nodes))})
	c.in(c.pause(), c.send)
}

// alive returns a node that is not dead: node, or the next one.
func (w *world) alive(node int) int {
	if node == w.dead {
		return (node + 1) % w.Nodes
	}
	return node
}

// submit sends r to whom its gateway takes for the writer. If no answer comes, it does so again: after a
// time, or when the gateway hears of a change.
func (c *conversation) submit(r *request) {
	r.gateway = c.alive(r.gateway) // the device has come back elsewhere
	c.report.Lookups++
	writer := c.place(c.view(r.gateway).writers, c.key)
	delay := time.Duration(0)
	if writer != r.gateway {
		c.report.Submits++
		c.report.BusBytes += float64(frameBytes + requestBytes + c.Payload)
		delay = hop
	}
	if writer != c.dead {
		c.in(delay, func() { c.arrives(writer, r) })
	}
	patience := askAgain
	if in, ok := c.hears(r.gateway); ok {
		patience = min(patience, in)
	}
	c.in(patience, func() {
		if !r.answered {
			c.report.Again++
			c.submit(r)
		}
	})
}

// arrives puts r into the queue of a writer.
func (c *conversation) arrives(writer int, r *request) {
	q := c.queues[writer]
	if q == nil {
		q = &queue{}
		c.queues[writer] = q
	}
	if q.waiting = append(q.waiting, r); !q.busy {
		c.commit(writer, q)
	}
}

// commit writes what waits, in one transaction. If another node has written meanwhile, the first try
// is refused.
func (c *conversation) commit(writer int, q *queue) {
	batch := q.waiting
	q.waiting, q.busy = nil, true
	took := commitTime
	c.report.Transactions++
	if c.writer >= 0 && c.writer != writer {
		c.report.Transactions++
		c.report.Conflicts++
		took *= 2
	}
	c.writer = writer
	c.in(took, func() {
		if q.busy = false; writer == c.dead {
			return // it died meanwhile; the gateways ask again
		}
		c.committed(writer, batch)
		if len(q.waiting) > 0 {
			c.commit(writer, q)
		}
	})
}

// committed answers the requests of a batch and publishes its entries.
func (c *conversation) committed(writer int, batch []*request) {
	gateways := map[int]bool{}
	entries := 0
	for _, r := range batch {
		if r.answered {
			continue // it was sent twice: the writer knows its ID
		}
		r.answered = true
		entries++
		c.answered++
		if r.gateway != writer {
			gateways[r.gateway] = true
			c.report.BusBytes += answerBytes
		}
	}
	c.report.Answers += float64(len(gateways))
	c.report.BusBytes += float64(len(gateways) * frameBytes)
	if entries > 0 {
		c.publish(writer, entries)
	}
}

// publish hands entries to the homes of the members, and these hand them to the gateways of their
// devices.
func (c *conversation) publish(writer, entries int) {
	body := pushBytes + entries*(entryBytes+c.Payload)
	homes := map[int][]member{}
	for _, u := range c.members {
		c.report.Lookups++
		h := c.place(c.view(writer).homes, u.key)
		homes[h] = append(homes[h], u)
	}
	for home, users := range homes {
		if home != writer {
			c.report.Publishes++
			c.report.BusBytes += float64(frameBytes + body + len(users)*nameBytes)
		}
		at := map[int]int{}
		for _, u := range users {
			for _, g := range c.gateways(u.id) {
				if home == c.dead {
					c.report.Lost += float64(entries)
					continue
				}
				c.report.Deliveries += float64(entries)
				at[g]++
			}
		}
		for gateway, devices := range at {
			if gateway != home {
				c.report.Pushes++
				c.report.BusBytes += float64(frameBytes + body + devices*nameBytes)
			}
		}
	}
}
