package pim

// Times gives the entries of one conversation their server times and the times
// that order them. The zero value is that of an empty conversation. A Times is not
// safe for concurrent use.
//
// The writer's clock may be set: by hand, by a time service, or because another
// node takes over whose clock is behind. When the clock is set back, the server times
// of a conversation must not go back. The local times of the senders do go back,
// because they are calibrated to that clock. Four rules keep the display order that
// of seq, and late resends at their places:
//
//   - The conversation's time runs on from where it stood, at the clock's pace. Its
//     lead is how far it is ahead of the clock. If it stood still until the clock
//     caught up, all entries of that time would have the same L', and a resend would
//     find no place among them. The lead shrinks by the time for which the
//     conversation is quiet beyond OrderWindow + OrderSlack: no resend reaches over
//     such a silence.
//   - The lead is added to a local time, which brings it onto the conversation's time.
//   - A message that was first transmitted before the clock was set has a local time
//     of the clock as it was then, as the entries written then have. It is moved by
//     the lead of that time, not by the present one. If its local time is later than
//     theirs, it stands behind them and before all that was written since.
//   - A sender may not have noticed yet that the clock was set. Then its local time
//     says nothing, and Sending.Age tells when the message was transmitted.
//
// The nodes of a cluster keep one time, but not to the millisecond. A writer that takes over, and finds its own clock behind by no more
// than NodesApart, holds the server time until its clock has caught up, and nothing else: the clock was not set, and local times are
// not moved. Two nodes that write in turns would otherwise drive the lead up with each turn, and have the conversation forget what lead
// it had when a resend was first transmitted. A process takes over whenever it has read the conversation from the store: nothing there says which
// node wrote the last entry. Once it has written an entry itself, it knows what its own clock has shown, and a clock that goes back by more than ledBack was set.
//
// For SetWindow after the clock was set, forwards or back, the devices of one sender
// may disagree: one has taken samples of the new time, another has not. During that
// time a first transmission, which cannot be a late resend, is ordered behind all
// that its sender has written. One that has waited at the servers may be: there, other nodes may have written since what the
// sender sent later. It stands where its local time says, unless that says nothing.
type Times struct {
	// Of the last entry.
	server Millis // its server time
	ahead  Millis // its lead: how far server is ahead of the writer's clock, see Stamp
	set    Millis // Moment.Set of the last entry that Stamp dated; Take does not know it
	// The latest that the writer's clock has shown to Stamp since it was set. 0 if the last entry was read, and so may be another node's.
	// It is of this process, and not in TimesState.
	clock Millis
	led   bool // the clock showed less than that to the last Stamp, and does not count as set

	// About the last time that the clock was set, as far as this conversation has seen
	// it. All 0 if the clock was not set, or a silence has shortened the lead since.
	upset Millis // server time of the first entry after it
	eve   Millis // server time of the last entry before it
	was   Millis // lead of that entry
	floor Millis // what between returned for the previous time that the clock was set
}

// SetWindow is how long after a server's clock was set, in milliseconds, a device may
// still go by the old time, or resend what it transmitted by it. It covers
// OrderWindow and the longest heartbeat that a server allows by default, 10 minutes:
// a device takes a sample with each heartbeat.
const SetWindow Millis = 15 * 60_000

// NodesApart is by how much the times of two nodes of one cluster may differ, in milliseconds, before a writer, or a device that comes from
// the other node, takes that for a clock that was set back. A device that comes from a node whose time is later holds its local times
// meanwhile, and the writer's time may be earlier than that of both nodes: twice NodesApart is still within OrderSlack, so that no local
// time is cut.
const NodesApart = OrderSlack / 2

// ledBack is by how much a writer's clock may go back, in milliseconds, without counting as set: a node of a cluster whose time is being led to what
// is right goes by a time that goes back by 5 ms each second. Until it has caught up, a first transmission is ordered as after a set.
const ledBack Millis = 20

// waitError is how wrong Sending.Wait may be, in milliseconds, without messages of one sender that have waited together
// changing places.
const waitError Millis = 20

// farOff is farther from 1970 than any clock shows, in either direction: 35,000 years.
// The times that a sender says are cut to it, so that no sum overflows.
const farOff Millis = 1 << 50

// Moment is what a writer's clock shows when the writer makes an entry.
type Moment struct {
	Now Millis
	// Set is when the clock was last set, by the time that it shows since; 0 if that is
	// more than SetWindow ago, or not known.
	Set Millis
}

// Sending is what a sender says about the time of a message.
type Sending struct {
	Local   Millis // its calibrated clock at the first transmission
	Attempt uint32 // 1: this is the first transmission; 0: the sender does not say
	Age     Millis // how long ago the first transmission was, not negative; 0: the sender does not say
	// Wait is for how long the servers have had this transmission, not negative: in queues, on the way from one node to another, and in
	// vain at others. It is by clocks that nobody sets, and does not count into Age. 0: not known, or not worth mentioning.
	Wait Millis
}

// TimesState is a Times as numbers, to be stored with the conversation.
type TimesState struct {
	Server, Ahead, Set       Millis
	Upset, Eve, Was, Between Millis
}

// State returns t as numbers. What this process's clock has shown is not among them.
func (t *Times) State() TimesState {
	return TimesState{t.server, t.ahead, t.set, t.upset, t.eve, t.was, t.floor}
}

// Times returns the Times whose State is s. Its last entry counts as one that another node may have written.
func (s TimesState) Times() Times {
	return Times{server: s.Server, ahead: s.Ahead, set: s.Set, upset: s.Upset, eve: s.Eve, was: s.Was, floor: s.Between}
}

// Take moves t past e, the next entry of a log that is being read.
func (t *Times) Take(e *Entry) {
	switch {
	case e.Ahead > t.ahead:
		t.wasSet(e.Server)
	case e.Ahead < t.ahead:
		t.upset, t.eve, t.was, t.floor = 0, 0, 0, 0
	}
	t.server, t.ahead, t.clock, t.led = e.Server, e.Ahead, 0, false
}

// Stamp returns the server time of the next entry, and the lead. It moves t past that entry. The lead is how far the server
// time is ahead of the writer's clock, give or take NodesApart and ledBack.
func (t *Times) Stamp(at Moment) (server, ahead Millis) {
	server, ahead = at.Now+t.ahead, t.ahead
	if server < t.server && !t.wentBack(at.Now) {
		server = t.server
	}
	back, quiet := t.server-server, server-t.server-OrderWindow-OrderSlack
	t.clock = max(t.clock, at.Now)
	t.led = back <= 0 && at.Now < t.clock
	switch {
	case back > 0:
		// How much time has passed since the last entry is not known. A step forward, of
		// OrderSlack at most, keeps this entry behind the last one even if it travelled
		// longer.
		server = t.server + min(back, OrderSlack)
		ahead = server - at.Now
		t.clock = at.Now
		t.wasSet(server)
	case at.Set != 0 && at.Set != t.set:
		t.clock = at.Now
		t.wasSet(server)
	case quiet > 0 && t.ahead > 0:
		shrinks := min(quiet, t.ahead)
		server, ahead = server-shrinks, ahead-shrinks
		t.upset, t.eve, t.was, t.floor = 0, 0, 0, 0
	}
	t.server, t.ahead, t.set = server, ahead, at.Set
	return server, ahead
}

// wentBack reports whether a writer's clock that shows now, less than the last entry has, was set back. Otherwise another node has
// written that entry, or one before it up to which this writer still holds the server time, and its clock is a little ahead.
func (t *Times) wentBack(now Millis) bool {
	if t.clock != 0 {
		return t.clock-now > ledBack
	}
	return t.server-t.ahead-now > NodesApart
}

// wasSet notes that the clock was set between the last entry and the next one, whose
// server time is server.
func (t *Times) wasSet(server Millis) {
	t.floor = t.between()
	t.upset, t.eve, t.was = server, t.server, t.ahead
}

// Order returns L' of the entry that Stamp dated last. latest is what Anchors.Latest
// returns for its sender.
func (t *Times) Order(s Sending, latest Millis) Millis {
	s.Local, s.Age, s.Wait = min(max(s.Local, -farOff), farOff), min(s.Age, farOff), min(s.Wait, farOff)
	l, transmitted := moved(s.Local, t.server, t.ahead), t.server-s.Age-s.Wait
	off := s.Local - (transmitted - t.ahead) // how far the sender's clock is ahead of the writer's
	says := s.Attempt == 1 || s.Age > 0
	before := t.ahead > 0 && off > t.slack()
	if t.set != 0 && says {
		before = transmitted-t.ahead < t.set
	}
	eve := t.eve - t.was // by the clock as it was
	vague := false       // the local time says nothing
	switch {
	case before && t.upset != 0 && s.Local <= eve && s.Local > eve-OrderWindow:
		l = max(t.floor, Clamp(s.Local, t.server-t.was)+t.was)
	case before && t.upset != 0,
		!before && t.set != 0 && says && (off > t.slack() || off < -OrderSlack): // the sender has not noticed
		l, vague = Clamp(max(t.between(), transmitted), t.server), true
	case !before && t.upset != 0 && (s.Age > 0 || s.Wait > OrderSlack):
		l = max(l, t.between())
	}
	late := s.Wait > OrderSlack && (!vague || latest > l+waitError)
	if s.Attempt == 1 && !late && (t.led || t.set != 0 || t.ahead > 0 && (before || t.server-t.upset <= SetWindow)) {
		l = max(l, latest)
	}
	return l
}

// between returns a time between the last entry before the clock was set and the
// first one after it.
func (t *Times) between() Millis { return t.eve + min(t.upset-t.eve, OrderSlack)/2 }

// slack is how far the sender's clock may be ahead of the writer's before Order takes
// that for a sign that the writer's clock was set back. A node to which the sender is connected may be ahead by NodesApart.
func (t *Times) slack() Millis {
	if t.ahead > t.was {
		return min(OrderSlack, max((t.ahead-t.was)/2, NodesApart))
	}
	return OrderSlack
}
