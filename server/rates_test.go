package server_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/server"
)

// The settings of rates reach both listeners, with TLS and without: of many connections at once the
// server closes some without a word, and counts them.
func TestConnectionsTooFast(t *testing.T) {
	const many = 64 // all wait in the kernel's queue before the rate could let them in one by one
	for _, secure := range []bool{true, false} {
		c := config(t)
		c.AcceptRate, c.HandshakeTimeout = 1, 5*time.Minute // nothing else closes them
		if secure {
			c.TLSCert, c.TLSKey, _ = selfSigned(t, c.Data)
		}
		n := start(t, c, server.Options{})
		addrs := []string{n.TCPAddr()}
		if secure {
			addrs = append(addrs, n.Addr())
		}
		for _, addr := range addrs {
			closed := make(chan struct{}, many)
			for range many {
				nc, err := net.Dial("tcp", addr)
				if err != nil { // closed before the dial was over
					closed <- struct{}{}
					continue
				}
				t.Cleanup(func() { nc.Close() })
				go func() {
					nc.Read(make([]byte, 1))
					closed <- struct{}{}
				}()
			}
			select {
			case <-closed:
			case <-time.After(time.Minute):
				t.Fatalf("TLS %t: of %d connections to %s none is closed", secure, many, addr)
			}
		}
		if !secure { // else the page would be refused
			if _, page := n.page("/metrics"); !strings.Contains(page, `pim_refusals_total{reason="accept_rate"}`) {
				t.Error("no refusal is counted")
			}
		}
	}
}
