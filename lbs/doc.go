// Package lbs decides which gateway a client dials, and when: the policy of the role lbs.
//
// A Balancer is told what the gateways say of themselves (View) and answers what clients ask
// (Ask). Each answer either assigns the client to a gateway and names up to four others for the
// case that it can't be reached, or tells the client to ask again at a random time within a
// window. So the LBS is the place where clients wait after a large loss, and the gateways see
// no more of them than they can take:
//
//   - A gateway is assigned no more clients in any second than it accepts.
//   - A gateway is assigned no more clients than it has places and memory for. Assignments of
//     the last few seconds count as connections, since the gateway may not have said so yet.
//   - A client is assigned to a gateway of its own site if one there can take it, and otherwise to
//     any other, by the room that each has.
//   - Clients that can't be assigned are spread over a window in which they all can be:
//     at least the clients that wait ÷ (0.8 × the accept rate).
//
// # Several LBS
//
// Any number of nodes have the role, and say nothing to each other: each gives out its share of every
// gateway's accept rate and of its room, which is one part of as many as View.LBS says. While a
// node comes or goes, their numbers may differ for as long as their views do; gateways have limits
// of their own for that. Accept rates should be at least one a second for each LBS. Below that,
// the LBS together may assign one client each within the same second.
//
// What a Balancer remembers (assignments of some seconds, who was told to come back) is soft: a new
// one begins with nothing, and a client may ask any of them.
//
// # Purity
//
// The package opens no socket and reads no clock. The time is an argument, and so is the source of
// random numbers: package server has it answer over HTTP, and a simulator can run the same code in
// virtual time.
package lbs
