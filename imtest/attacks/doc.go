// Package attacks attacks a real server in the ways that docs/avalanche.md lists, while two honest users talk. Each attack is a
// test: the bystanders lose nothing, the server keeps its bounds, and attackers are told why they are refused. How long
// the bystanders' messages take, before and meanwhile, is in the log:
//
//	go test -count 1 -v ./imtest/attacks
//
// With -short the attacks are smaller, and so are the bounds that they run into.
package attacks
