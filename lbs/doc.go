// Package lbs decides which gateway a client dials, and when: the policy of the role lbs. The reasons
// are in docs/decisions/0052-lbs.md.
//
// A Balancer is told what the gateways say of themselves (View) and answers what clients ask
// (Ask). An answer either gives the client a place on a gateway, and names up to four others for the
// case that it can't be reached, or tells the client to ask again at a random time within a
// window. So the LBS is where clients wait after a large loss, and the gateways see no more of
// them than they can take:
//
//   - A gateway is assigned no more clients in any second than it accepts.
//   - A gateway is assigned no more clients than it has places and memory for. An assignment counts
//     as a connection until the gateway must have said so.
//   - A client is assigned to a gateway of its own site if one there can take it, and otherwise to
//     any other, by the room that each has.
//   - Clients that can't be assigned are spread over a window in which they all can be:
//     at least the clients that wait ÷ (0.8 × the accept rate).
//
// These bounds are for first dials. A client that can't reach its first candidate dials another, of which the LBS does
// not hear; and a gateway has an accept rate of its own (package limit) against all that comes unasked.
//
// # Who has places
//
// A client without an access token or a ticket has no place, and changes nothing for others. A user
// has 16 places at once, and one every two seconds from then on. A network that asks faster than once a
// second, after 60 times, is eager: its clients get what others leave of the accept rates, and are told to
// wait for all others. Nobody is told to wait for them. Tables of fixed size hold all this (shares.go), and
// nobody is ever taken for somebody else.
//
// # Several LBS
//
// Any number of nodes have the role, and say nothing to each other: each gives out its part of every
// gateway's accept rate and of its room, as Gateway.Shares says. While a node comes or goes, these numbers may differ
// for as long as the views of the LBS do. What a Balancer remembers (assignments of some seconds, who was told to
// come back) is soft: a new one begins with nothing, and a client may ask any of them.
//
// # Purity
//
// The package opens no socket and reads no clock. The time is an argument, and so is the source of
// random numbers: a server has it answer over HTTP, and a simulator runs the same code in virtual time.
package lbs
