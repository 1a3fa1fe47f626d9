package transport_test

import (
	neturl "net/url"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/pim-im/pim/client/transport"
)

// The kernel does not probe the connections: the heartbeats alone decide how often a
// phone's radio wakes up.
func TestNoKeepAlive(t *testing.T) {
	urls, config := servers(t)
	delete(urls, "quic") // UDP has no such option
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			d := must(transport.NewDialer(url, config, nil))(t)
			c := must(d.Dial(t.Context()))(t)
			defer c.Close()
			port := must(strconv.Atoi(must(neturl.Parse(url))(t).Port()))(t)
			found := 0
			for _, fd := range socketsTo(t, port) {
				found++
				if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != 0 || err != nil {
					t.Errorf("SO_KEEPALIVE is %d, %v", on, err)
				}
			}
			if found != 1 {
				t.Errorf("%d connections to port %d", found, port)
			}
		})
	}
}

// socketsTo returns the sockets of this process that are connected to a port of
// this machine.
func socketsTo(t *testing.T, port int) (fds []int) {
	t.Helper()
	for _, file := range must(os.ReadDir("/proc/self/fd"))(t) {
		fd := must(strconv.Atoi(file.Name()))(t)
		peer, err := syscall.Getpeername(fd)
		if to, ok := peer.(*syscall.SockaddrInet4); ok && err == nil && to.Port == port {
			fds = append(fds, fd)
		}
	}
	return fds
}
