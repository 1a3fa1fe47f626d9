//go:build pimnext

package server

// busProtocol is the newest version of the bodies between nodes that this version understands. Tests build a program
// with the tag pimnext, to run a later version beside this one.
const busProtocol = 2
