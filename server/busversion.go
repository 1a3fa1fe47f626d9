//go:build !pimnext

package server

// busProtocol is the newest version of the bodies between nodes that this version understands.
const busProtocol = 1
