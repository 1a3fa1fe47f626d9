// Package loopback finds addresses of this machine for servers that stop listening
// and come back.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Own returns a random loopback address, so that nobody else listens there and no outgoing
// connection has it. A server can give up a port of that address for a while: no other
// server gets the port, and with it the clients, and the port is free when the server
// wants it again. Own returns 127.0.0.1 if that is the only loopback address.
func Own() string {
	ip := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip})
	if err != nil {
		return "127.0.0.1"
	}
	l.Close()
	return ip.String()
}

// Addresses returns n free addresses, each host:port, of one host from Own. They are for a
// server that starts later: Addresses does not listen there any more.
func Addresses(n int) ([]string, error) {
	host := net.JoinHostPort(Own(), "0")
	free := make([]string, n)
	for i := range free {
		l, err := net.Listen("tcp", host)
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		defer l.Close() // only when all are known, so that they differ
		free[i] = l.Addr().String()
	}
	return free, nil
}
