package tunlink

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// Link joins two namespaces. Both have addresses in 10.77.0.0/16.
type Link struct {
	Server, Client *Namespace

	devices  []*os.File
	up, down *lane // from the client to the server, and back
	done     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup

	mu      sync.Mutex
	address netip.Addr // the client's
}

// serverAddress is the server's address, which never changes.
var serverAddress = netip.AddrFrom4([4]byte{10, 77, 0, 1})

// New makes two namespaces and a good link between them. What is random follows from
// seed and the order of the packets. The error is of KindUnsupported if this machine
// can't have a link, see Available, else of KindUnavailable. The caller must close the
// sockets of the namespaces, and then Close the link.
func New(seed uint64) (*Link, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	l := &Link{
		up: newLane(seed, 0), down: newLane(seed, 1), done: make(chan struct{}),
		address: serverAddress.Next(),
	}
	var err error
	if l.Server, err = l.open(serverAddress); err == nil {
		l.Client, err = l.open(l.address)
	}
	if err != nil {
		l.Close()
		return nil, pim.Errorf(pim.KindUnavailable, "tun link: %w", err)
	}
	server, client := l.devices[0], l.devices[1]
	l.wg.Go(func() { l.read(client, l.up) })
	l.wg.Go(func() { l.read(server, l.down) })
	l.wg.Go(func() { l.write(server, l.up) })
	l.wg.Go(func() { l.write(client, l.down) })
	return l, nil
}

// open makes one of the namespaces.
func (l *Link) open(address netip.Addr) (*Namespace, error) {
	s, err := newNamespace()
	if err != nil {
		return nil, err
	}
	dev, err := s.openDevice(address.As4())
	if err != nil {
		s.close()
		return nil, err
	}
	l.devices = append(l.devices, dev)
	return s, nil
}

// ServerAddr returns the server's address.
func (l *Link) ServerAddr() netip.Addr { return serverAddress }

// Set says how packets fare from now on: up is the way from the client to the server,
// down the way back.
func (l *Link) Set(up, down Path) {
	l.up.set(up)
	l.down.set(down)
}

// Cut loses every packet until Mend, and those that are on their way too. Neither side
// is told.
func (l *Link) Cut() {
	l.up.setCut(true)
	l.down.setCut(true)
}

// Mend ends a Cut.
func (l *Link) Mend() {
	l.up.setCut(false)
	l.down.setCut(false)
}

// MoveClient replaces the address of the client's side. The client's connections are
// not told: they go on sending from the old address, to which no answer finds its way.
func (l *Link) MoveClient() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.address.Next()
	if a := next.As4(); a[2] == 255 { // begin again, far from the end of the network
		next = serverAddress.Next()
	}
	if err := l.Client.setAddress(next.As4()); err != nil {
		return err
	}
	l.address = next
	return nil
}

// Stats returns what became of the packets so far.
func (l *Link) Stats() (up, down Stats) { return l.up.counts(), l.down.counts() }

// Close takes the link down. Packets on their way are lost.
func (l *Link) Close() {
	l.once.Do(func() {
		close(l.done)
		for _, d := range l.devices {
			d.Close()
		}
		l.wg.Wait()
		for _, s := range []*Namespace{l.Server, l.Client} {
			if s != nil {
				s.close()
			}
		}
	})
}

// read takes packets from a device until it is closed.
func (l *Link) read(from *os.File, to *lane) {
	buf := make([]byte, mtu)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		// Only IPv4 passes: IPv6 has no address here, and its discovery is no traffic.
		if n > 0 && buf[0]>>4 == 4 {
			to.take(append([]byte(nil), buf[:n]...), time.Now())
		}
	}
}

// write hands packets to a device when they are due.
func (l *Link) write(to *os.File, from *lane) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		data, at := from.next(time.Now())
		if data != nil {
			_, _ = to.Write(data) // a packet that the kernel does not take is lost
			continue
		}
		var due <-chan time.Time
		if !at.IsZero() {
			t.Reset(time.Until(at))
			due = t.C
		}
		select {
		case <-due:
		case <-from.wake:
		case <-l.done:
			return
		}
	}
}
