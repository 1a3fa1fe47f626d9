package pim

// Retention is for how long a conversation says that its entries are kept: the outcome of the
// retains in its log, in their order. The zero value says nothing. Times are in milliseconds, and
// 0 as a length of time means for ever, or for as long as the server keeps entries.
type Retention struct {
	Age    Millis // what the last retain says
	Before Millis // what holds until From
	From   Millis // the server time from which Age holds; 0: it holds already
}

// At returns for how long entries are kept at the server time now; 0: the conversation does not say.
func (r Retention) At(now Millis) Millis {
	if now < r.From {
		return r.Before
	}
	return r.Age
}

// Said returns the retention behind a retain that says age and was written at the server time at.
// A longer time holds at once. A shorter one than what holds at that time waits for notice, so
// that whoever objects can say so before anything is removed. A notice under way goes on if the
// retain asks for no less than the one before it. So whoever repeats a retain does not put it off.
func (r Retention) Said(age, at, notice Millis) Retention {
	holds := r.At(at)
	if notice <= 0 || !shorter(age, holds) {
		return Retention{Age: age}
	}
	next := Retention{Age: age, Before: holds, From: at + notice}
	if at < r.From && !shorter(age, r.Age) {
		next.From = min(next.From, r.From)
	}
	return next
}

// Within returns r on a server that keeps entries for age, 0 for ever: nothing is kept for longer.
func (r Retention) Within(age Millis) Retention {
	within := func(own Millis) Millis {
		if shorter(age, own) {
			return age
		}
		return own
	}
	r.Age, r.Before = within(r.Age), within(r.Before)
	return r
}

// shorter reports whether entries that are kept for a leave before those that are kept for b.
func shorter(a, b Millis) bool { return a != 0 && (b == 0 || a < b) }
