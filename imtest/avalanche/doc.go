// Package avalanche plays in virtual time what happens when a data centre dies: its clients come to the others, all at
// once or as they are told, and the others hold or fall. `pim sim avalanche` runs it; what it has shown is in
// docs/avalanche.md, and the reasons for the model in docs/decisions/0057-sim-avalanche.md.
//
// The policy is the real one, called and not imitated: a client that has lost its connection is a client/engine.Engine, which
// races, backs off, leaves busy sites alone and asks an LBS; an LBS is a lbs.Balancer with a limit.Gate for its
// questions; a site lets connections in by a limit.Gate. A client whose connection has held from the beginning has
// no engine yet: it gets one when it loses it, which is given first what it has lived through.
//
// The rest is a model. A site is one gateway as large as the whole data centre, with a CPU: logins, handshakes and refusals
// wait for it one after the other, and what is left for them shrinks with the number of connections. Once it is ten
// seconds behind, or its memory is full, the site falls: it loses all connections and starts again with cold caches.
// A site that is dark swallows all packets. A round trip takes 50 ms; all clients notice within a second
// that their site has died, which is the worst case. Messages, heartbeats and addresses are not played.
//
// # Cohorts
//
// With Config.Cohort = k each client that is played stands for k, which do all at the same moment. Capacities and rates are
// divided by k, and counts multiplied: so it is a system of a k-th of the size, and as exact as the policy is free of scale.
package avalanche
