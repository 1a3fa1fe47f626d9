// Package versions holds what nodes of different versions of pim say to each other. For each message between nodes
// testdata has the bytes in which an earlier version encoded it, and what they mean, field by field. Today's code must read
// the same from them, since nodes of two versions run side by side while a cluster is upgraded.
package versions
