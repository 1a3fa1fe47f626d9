// Package simcluster plays the traffic of a cluster in virtual time, to see what a message costs the
// nodes as the cluster grows: messages of the bus, bytes, and look-ups of placement.
//
// The policy is the real one: package placement decides who writes a conversation and who is a user's
// home. Around it stands a model: gateways hand requests to writers, a writer commits what has gathered
// while its last commit was under way, answers go back to the gateways, and entries go to the homes
// of the members and from there to the gateways of their devices (docs/decisions/0043). In the
// middle of the run a node dies, and later another one joins. Until they have heard of it, nodes go by what
// they saw before, each for another time.
//
// Some conversations are played, of members who are drawn from all users; users are numbers, so it
// takes the same memory for a hundred million of them. Nothing here measures CPU.
package simcluster
