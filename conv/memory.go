package conv

// A driver keeps the machines used last in memory, up to a weight. It can forget any machine
// that waits for nothing: the conversation is loaded again when the next request comes.

// machineBytes is what a machine takes up in memory besides its state, in bytes, about.
const machineBytes = 200

// used makes m the machine used last, unless m waits for something. It forgets a conversation
// that has no log, so that IDs that somebody made up push nothing out of memory.
func (d *driver) used(m *machine) {
	switch {
	case m.busy():
	case m.live == nil || m.live.last == 0:
		d.forget(m)
	default:
		d.unlink(m)
		d.link(m)
	}
}

// weighAgain counts the weight of m anew if it may have changed by much. Most entries add a
// sender and some bytes, so a few of them are not counted; a single entry may add all members
// of a group, or a large setting, which changes bulk. The driver calls weighAgain after each
// batch and each look-up: a look-up may load the state, or remember many IDs.
func (d *driver) weighAgain(m *machine) {
	const entries = 16
	l := m.live
	if l == nil {
		d.weight -= m.weight
		m.weight, m.weighed, m.bulkWeighed = 0, 0, 0
		return
	}
	bulk := l.bulk()
	if m.weight != 0 && l.last-m.weighed < min(entries, m.weighed+1) && bulk == m.bulkWeighed {
		return
	}
	cost := machineBytes + l.cost()
	d.weight += cost - m.weight
	m.weight, m.weighed, m.bulkWeighed = cost, l.last, bulk
}

// forget drops m, which must not wait for anything.
func (d *driver) forget(m *machine) {
	d.unlink(m)
	d.weight -= m.weight
	delete(d.machines, m.id)
}

// link makes m the machine used last.
func (d *driver) link(m *machine) {
	m.older, d.newest, m.used = d.newest, m, d.turned
	if m.older != nil {
		m.older.newer = m
	} else {
		d.oldest = m
	}
}

func (d *driver) unlink(m *machine) {
	d.resting.left(m)
	if m.newer != nil {
		m.newer.older = m.older
	} else {
		d.newest = m.older
	}
	if m.older != nil {
		m.older.newer = m.newer
	} else {
		d.oldest = m.newer
	}
	m.newer, m.older = nil, nil
}

// shrink forgets the machines not used for the longest time, while all drivers together hold
// more than Writers.memory and this driver holds more than its part. So a driver that has the
// busy conversations may use the memory that the other drivers do not use. If that driver has
// nothing to do any more when the others grow, they wake it. Until its next turn all drivers together
// hold less than twice Writers.memory: each of the others forgets its own machines above its part.
// What waits for something, and the machine that each driver has used last, is not forgotten.
func (d *driver) shrink(v *view) {
	m := d.oldest
	for m != nil && m != d.newest && d.weigh() > d.memory && d.weight > d.part {
		newer := m.newer
		if !m.busy() {
			if m.live.snapshotDue(restedEvery) && v.closed == nil {
				d.out.later = append(d.out.later, m.live.snapshotWrite())
			}
			d.forget(m)
		}
		m = newer
	}
	// If all was looked at, what is left is in use. Waking this driver would change nothing then; the
	// turn in which something falls idle is its own.
	d.over.Store(d.weight > d.part && m != nil && m != d.newest)
	if d.weigh() > d.memory {
		for _, o := range d.drivers {
			if o != d && o.over.Load() {
				o.in.poke()
			}
		}
	}
	d.metrics.Live.Add(float64(len(d.machines) - d.shown))
	d.shown = len(d.machines)
}

// weigh adds the growth of d's weight to Writers.liveWeight, and returns Writers.liveWeight,
// the weight of the conversations of all drivers.
func (d *driver) weigh() int {
	grown := d.weight - d.weighed
	all := d.liveWeight.Add(int64(grown))
	d.weighed = d.weight
	d.metrics.Weight.Add(float64(grown))
	return int(all)
}
