package tunlink

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/pim-im/pim"
	"golang.org/x/sys/unix"
)

// Available reports why no Link can be made here; nil if it can.
func Available() error {
	if os.Geteuid() != 0 {
		return pim.Errorf(pim.KindUnsupported, "a tun link needs root")
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return pim.Errorf(pim.KindUnsupported, "a tun link needs /dev/net/tun: %w", err)
	}
	f.Close()
	s, err := newNamespace()
	if err != nil {
		return err
	}
	return s.close()
}

// Namespace is a network of its own, with one device into the link. Its methods
// may be called concurrently.
type Namespace struct {
	ns *os.File
}

func newNamespace() (*Namespace, error) {
	s := new(Namespace)
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		return nil, pim.Errorf(pim.KindUnsupported, "make a network namespace: %w", err)
	}
	return s, nil
}

// close lets go of the namespace; the kernel keeps it while it has sockets.
func (s *Namespace) close() error { return s.ns.Close() }

// Do calls f on a thread in the namespace, and returns its error. The sockets that f
// makes belong to the namespace; goroutines that f starts run outside of it.
func (s *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// Dial connects from the namespace to an address whose host is an IP address. It fits
// client.Options.Dial and http.Transport.DialContext.
func (s *Namespace) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens in the namespace.
func (s *Namespace) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = s.Do(func() error {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// onThread calls f on a thread of its own, which ends when f returns. f may change the
// thread's namespace, so nothing else may run there.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and no unlock: the thread ends with the goroutine
		if unix.Gettid() != os.Getpid() {
			done <- f()
			return
		}
		// The main thread never ends, and the process is seen through it. While this
		// goroutine locks the main thread, f gets another one.
		done <- onThread(f)
		runtime.UnlockOSThread()
	}()
	return <-done
}
