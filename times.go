package pim

// Times gives the entries of one conversation their server times and the times
// that order them. The zero value is that of an empty conversation; it is not
// safe for concurrent use.
//
// The writer's clock may be set: by hand, by a time service, or because another
// node takes over, whose clock is behind. When it is set back, the server times of
// a conversation must not go back with it. The local times of the senders do: they
// are calibrated to the clock that was set. Four rules keep the display order that
// of seq, and late resends at their places:
//
//   - The conversation's time runs on from where it stood, ahead of the clock, at
//     the clock's pace. It must not stand still meanwhile: then all entries would
//     have the same L', and a resend would find no place among them. The lead is
//     given back where the conversation was quiet for OrderWindow + OrderSlack,
//     so that no resend can tell the difference.
//   - A local time is moved by the lead, so that it is on the conversation's time.
//   - A message that was first transmitted before the clock was set has a local time
//     of the clock as it was, on which the entries of that time stand. It is not
//     moved. If it is later than those entries, it stands behind them and before all
//     that was written since.
//   - The sender may not know yet that the clock was set: then its local time says
//     nothing, and Sending.Age tells when the message was transmitted.
//
// For SetWindow after the clock was set, either way, the devices of one sender may
// disagree: one has taken samples of the new time, another has not. During that
// time a message in its first transmission, which cannot be a late resend, is
// ordered behind all that its sender has written.
type Times struct {
	server Millis // of the last entry
	ahead  Millis // its lead over the writer's clock
	set    Millis // as in Moment, of the last entry that had one

	// The last time that the clock was set, as far as this conversation has seen it;
	// all 0 if it was not.
	upset Millis // server time of the first entry after it
	eve   Millis // server time of the last entry before it
	was   Millis // lead of that entry
	floor Millis // between, of the time before that
}

// SetWindow is how long after a server's clock was set, in milliseconds, a device
// may go by the old time, or send again what it transmitted by it: the longest
// heartbeat, with which it takes a sample, and OrderWindow.
const SetWindow Millis = 15 * 60_000

// farOff is a time that no clock shows, in either direction: 35,000 years. What a
// sender says is cut to it, so that no sum overflows.
const farOff Millis = 1 << 50

// Moment is what a writer's clock shows when it writes an entry.
type Moment struct {
	Now Millis
	// Set is when the clock was set, by the clock itself as it is now; 0 if that is
	// more than SetWindow ago, or nobody knows.
	Set Millis
}

// Sending is what a sender says about the time of a message.
type Sending struct {
	Local   Millis // its calibrated clock at the first transmission
	Attempt uint32 // 1: this is the first transmission; 0: it does not say
	Age     Millis // how long ago the first transmission was, not negative; 0 if it does not say
}

// TimesState is a Times as numbers, for who stores it with the conversation.
type TimesState struct {
	Server, Ahead, Set       Millis
	Upset, Eve, Was, Between Millis
}

// State returns t as numbers.
func (t *Times) State() TimesState {
	return TimesState{t.server, t.ahead, t.set, t.upset, t.eve, t.was, t.floor}
}

// Times returns what s is the State of.
func (s TimesState) Times() Times {
	return Times{s.Server, s.Ahead, s.Set, s.Upset, s.Eve, s.Was, s.Between}
}

// Take takes in the next entry of a log that is being read.
func (t *Times) Take(e *Entry) {
	switch {
	case e.Ahead > t.ahead:
		t.wasSet(e.Server)
	case e.Ahead < t.ahead:
		t.upset, t.eve, t.was, t.floor = 0, 0, 0, 0
	}
	t.server, t.ahead = e.Server, e.Ahead
}

// Stamp returns the server time of the next entry, and how far that is ahead of the
// writer's clock. It takes the entry in.
func (t *Times) Stamp(at Moment) (server, ahead Millis) {
	server = at.Now + t.ahead
	back, quiet := t.server-server, server-t.server-OrderWindow-OrderSlack
	switch {
	case back > 0:
		// Some time has passed since the last entry, nobody knows how much. A step
		// forward keeps the entry behind that one although it travelled longer.
		server = t.server + min(back, OrderSlack)
		t.wasSet(server)
	case at.Set != 0 && at.Set != t.set:
		t.wasSet(server)
	case quiet > 0 && t.ahead > 0:
		server -= min(quiet, t.ahead)
		t.upset, t.eve, t.was, t.floor = 0, 0, 0, 0
	}
	t.server, t.ahead, t.set = server, server-at.Now, at.Set
	return t.server, t.ahead
}

// wasSet notes that the clock was set between the last entry and one at server.
func (t *Times) wasSet(server Millis) {
	t.floor = t.between()
	t.upset, t.eve, t.was = server, t.server, t.ahead
}

// Order returns L' of the entry that Stamp was called for last. latest is what
// Anchors.Latest of its sender returns.
func (t *Times) Order(s Sending, latest Millis) Millis {
	s.Local, s.Age = min(max(s.Local, -farOff), farOff), min(s.Age, farOff)
	l, transmitted := moved(s.Local, t.server, t.ahead), t.server-s.Age
	off := s.Local - (transmitted - t.ahead) // by which the sender's clock is ahead of the writer's
	says := s.Attempt == 1 || s.Age > 0
	before := t.ahead > 0 && off > t.slack()
	if t.set != 0 && says {
		before = transmitted-t.ahead < t.set
	}
	eve := t.eve - t.was // on the clock as it was
	switch {
	case before && t.upset != 0 && s.Local <= eve && s.Local > eve-OrderWindow:
		l = max(t.floor, Clamp(s.Local, t.server-t.was)+t.was)
	case before && t.upset != 0,
		!before && t.set != 0 && says && (off > t.slack() || off < -OrderSlack): // it does not know
		l = Clamp(max(t.between(), transmitted), t.server)
	case !before && t.upset != 0 && s.Age > 0:
		l = max(l, t.between())
	}
	if s.Attempt == 1 && (t.set != 0 || t.ahead > 0 && (before || t.server-t.upset <= SetWindow)) {
		l = max(l, latest)
	}
	return l
}

// between returns a time between the last entry before the clock was set and the
// first one after it.
func (t *Times) between() Millis { return t.eve + min(t.upset-t.eve, OrderSlack)/2 }

// slack is how far the sender's clock may be ahead of the writer's before that is
// taken for a sign that the writer's was set back.
func (t *Times) slack() Millis {
	if t.ahead > t.was {
		return min(OrderSlack, (t.ahead-t.was)/2)
	}
	return OrderSlack
}
