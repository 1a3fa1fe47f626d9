// Package limit decides by rates which connections and logins a gateway takes, how fast it reads, and what users do in an hour or a day.
//
// It is pure: it opens nothing, and time, as a monotonic time.Duration, and chance come from
// the caller. Package gateway asks it before TLS, and again when a token has told who it is.
//
// # What is bounded
//
// A Gate has a rate for all connections together, one for each address, one for each network
// around it, and one for the logins of each user and of each device. Each rate comes with
// some seconds' worth of it at once (its burst), so that a crowd that comes back is no flood.
//
// Whoever is over the rate of its own address, network, user or device takes nothing of what
// others share: all rates are looked at first, and are charged only if all of them allow it.
//
// A share of the burst of all connections is for networks that come slowly (eagerSpare), so that
// they are let in before those that come fast, however many these are. Nobody is refused for
// that alone.
//
// It also has a budget for each connection, of frames and of bytes: whoever is over it is read more
// slowly (Sends). And Deeds bound what a user does to others in an hour, and Disk how much a user has stored in a day; package
// conv asks them.
//
// An Overload says by the time that work waits in a node's queues what the node sheds.
//
// # Memory
//
// An attacker has more addresses than a table has places, and whatever a table puts out was
// somebody's count. So there is no table. A sketch (sketch.go) has a fixed number of cells, and
// each key has one cell in each of four rows. Its count is the smallest of the four, so a key is
// refused wrongly only if all of its cells are at their limit because of other keys. To keep a
// cell at its limit an attacker must be let in at the rate of one key, all the time, and the
// rate of all connections bounds how many cells that can be: at 10,000 connections a second, and
// 200 of an address, 50 of 8,192 in each row. The slow pace by which networks are told apart is cheaper to reach: in a flood from
// thousands of networks, some others are wrongly above it, and wait like the flood.
package limit
