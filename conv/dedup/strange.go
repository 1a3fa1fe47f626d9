package dedup

import "github.com/pim-im/pim"

// The index has only IDs whose time is close to the server time of their entry. So a client
// cannot make look-ups long by the IDs that it makes: a look-up reads the entries of some ten
// seconds. An ID of another time is strange, and is written to a cell of its own with its
// entry. A message that waited for a network has such an ID, and so have the messages of a
// device whose clock is wrong.

const (
	strangePast   = 10_000 // ms that an ID's time may be before its entry's server time
	strangeFuture = 1_000  // ms that it may be after
)

// isStrange reports whether id is strange, if its entry has the server time server.
func isStrange(id pim.ClientMessageID, server pim.Millis) bool {
	t := idTime(id)
	return t < int64(server)-strangePast || t > int64(server)+strangeFuture
}

// strangers knows which IDs may have cells of their own: those with a time up to past, or from
// future to beyond. A new ID made by a right clock is usually in neither range.
type strangers struct {
	past           int64 // 0: none
	future, beyond int64 // 0: none
}

func (x *strangers) mayHave(t int64) bool {
	return x.past != 0 && t <= x.past || x.beyond != 0 && x.future <= t && t <= x.beyond
}

// take takes in t, the time of a strange ID whose entry has the server time server.
func (x *strangers) take(t int64, server pim.Millis) {
	switch {
	case t <= int64(server):
		x.past = max(x.past, t, 1)
	case x.beyond == 0:
		x.future, x.beyond = t, t
	default:
		x.future, x.beyond = min(x.future, t), max(x.beyond, t)
	}
}
