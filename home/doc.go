// Package home brings pushes to devices that are connected to other nodes. Every user has a home, the
// node that package placement names for the user's own log. It knows, in memory, to which nodes the
// user's devices are connected. One node has up to three parts in this, and a Home is all of them:
//
//   - The writer's: Publish sorts what was appended by the homes of those who read it, and sends each home
//     one message (publish.go).
//   - The home's: it passes the entries on to the gateways of the devices, one message for each
//     (directory.go, register.go).
//   - The gateway's: it tells a device's home when the device connects and goes, and pushes what comes to
//     its Sessions (links.go, join.go).
//
// Where two parts are in one node, the message between them is a function call, and nothing is
// encoded.
//
// Besides that, homes bring to gateways what is on screens: receipts, typing and presence (looks.go, lookers.go).
//
// # What is lost
//
// All that a home knows may be lost, and so may any push. What may not happen is that a device misses a push and
// does not hear of it soon. So a device is told to sync (gateway.Sessions.Behind) when a push for it may
// have been lost:
//
//   - A message from a writer to a home is missing (bus.Handler.Gap), or the writer has gone without a
//     farewell: all devices that the home knows. A home says no farewell to a writer that does not answer it, since a gap may not have
//     shown: then the writer takes it for one that has gone without.
//   - A home has gone, or there was none: all devices that the other homes know, once for each writer that sees it. A
//     gateway that saw it first has told the devices already, but the writer has sent pushes to the dead home since.
//   - A message from a home to a gateway is missing: the gateway's devices whose home that is, or was less than grace
//     ago. It also announces them again, because a Joined may be missing.
//   - A message from a gateway to a home is missing: the home has the gateway announce all its devices there again.
//     Those that the home did not know are told to sync.
//   - A user's home is another node, because nodes came or went: the gateway announces the devices to the
//     new home. They are told to sync if the old home is gone. If it is there, nothing is lost: it keeps what it knows for
//     grace, for writers that hear of the change late. And a home that gets pushes for a user of whom it
//     knows no device passes them on to the home before. A device that connects within grace of the change is
//     announced to the home before as well: a writer that has not heard of the change sends its pushes there.
//   - A user's new home gets a push while it knows some devices of the user only: those that are announced later are told.
//   - Two nodes see each other that did not for a while, or never did while both served: each may have sent the other's pushes to other
//     homes, and other writers may have sent there what is for its devices. All devices that either knows are told, as a home and as a
//     gateway. Each announces its devices anew, to all homes: they may have seen what it did not, and know devices that have gone
//     meanwhile, or have forgotten some.
//
// Messages of a gateway to a home come in their order, and a gap shows itself before what follows. So a
// home that has heard of no gap knows exactly the devices that the gateway has told it of.
//
// Many devices are not told at once, but spread over a time that grows with their number (behind.go).
//
// What remains: a writer whose view is older than grace sends pushes to a home that does not know the devices any more.
// And a gateway that does not see a home which the writer sees has not announced its devices there, until it sees it.
// They are found with the next heartbeat, which makes every device sync.
package home
