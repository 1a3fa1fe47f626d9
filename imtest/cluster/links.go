package cluster

import (
	"errors"

	"github.com/pim-im/pim/imtest/fault"
)

// links is the network between the nodes of pim: each node dials each other one over a proxy of its own. NATS
// tells a node under which addresses the others are seen, but behind a proxy that is the proxy's address,
// where no node listens. So nothing goes past the proxies.
type links [Nodes][Nodes]*fault.Proxy

// newLinks returns links between nodes that listen at the addresses. Who makes them closes them.
func newLinks(addresses []string, seed uint64) (*links, error) {
	l := new(links)
	for i := range l {
		for j := range l[i] {
			if i == j {
				continue
			}
			p, err := fault.New(addresses[j], seed+uint64(Nodes*i+j))
			if err != nil {
				l.close()
				return nil, err
			}
			l[i][j] = p
		}
	}
	return l, nil
}

// from returns where node i reaches the others.
func (l *links) from(i int) (addresses []string) {
	for _, p := range l[i] {
		if p != nil {
			addresses = append(addresses, p.Addr())
		}
	}
	return addresses
}

// pass says what happens to all that node i sends to node j, whichever of them has dialled the other.
func (l *links) pass(i, j int, path fault.Path) error {
	there, back := l[i][j].Conditions(), l[j][i].Conditions()
	there.Up, back.Down = path, path
	return errors.Join(l[i][j].Set(there), l[j][i].Set(back))
}

// accept says what becomes of new connections between two nodes.
func (l *links) accept(i, j int, a fault.Accept) error {
	there, back := l[i][j].Conditions(), l[j][i].Conditions()
	there.Accept, back.Accept = a, a
	return errors.Join(l[i][j].Set(there), l[j][i].Set(back))
}

// reset ends all connections between two nodes.
func (l *links) reset(i, j int) {
	l[i][j].Cut(fault.Both)
	l[j][i].Cut(fault.Both)
}

func (l *links) close() {
	for i := range l {
		for _, p := range l[i] {
			if p != nil {
				p.Close()
			}
		}
	}
}
