// Package loopback finds addresses of this machine for servers that stop listening
// and come back.
package loopback

import (
	"math/rand/v2"
	"net"
)

// Own returns a loopback address that nobody else listens at, and that no outgoing
// connection has: a port there, given up for a while, does not become another
// server's, to whom clients would come, nor is it taken when it is wanted again.
// Where only 127.0.0.1 is loopback it is that one.
func Own() string {
	ip := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip})
	if err != nil {
		return "127.0.0.1"
	}
	l.Close()
	return ip.String()
}
