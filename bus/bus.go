// Package bus is how the nodes of one pim hear of each other, and how they tell each other what
// is fleeting: requests on their way to a writer, answers on their way back, pushes, where devices
// are. What is durable is in the store.
//
// A message of the bus may be lost, and nothing may depend on its arrival. But a loss does not pass
// unnoticed: the messages from one node to another come in the order in which they were sent, and
// where some are missing, the receiver is told of a gap. It need not know what was lost: it has
// those sync who may have missed something.
//
// A pim of one node has no bus, and pays nothing for it. Between processes it is bus/nats. Both
// it and the network of tests, bus/bustest, pass the suite in bus/bustest.
package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pim-im/pim"
)

// MaxBody is how many bytes a body has at most. Who has more to say sends several messages.
const MaxBody = 2 << 20

// Kind says what a message is, and which part of a node takes it. Numbers are never used again for
// something else: nodes of two versions run side by side while a cluster is upgraded.
type Kind uint8

// The kinds. Their bodies are described where they are encoded.
const (
	KindSubmit   Kind = 1  // requests, to the writer of their conversations: package route
	KindAnswer   Kind = 2  // answers, to the gateway where the requests came in: package route
	KindPublish  Kind = 3  // entries, to the homes of those who read them: package home
	KindPush     Kind = 4  // entries, to the gateways of their devices: package home
	KindJoin     Kind = 5  // a device connects, to its user's home: package home
	KindLeave    Kind = 6  // a device has gone, to its user's home: package home
	KindAnnounce Kind = 7  // all devices of a gateway, to their users' home: package home
	KindReplace  Kind = 8  // the device has connected elsewhere, to the gateway of its older connection; a request: package home
	KindBehind   Kind = 9  // users who may have missed pushes, to their gateways: package home
	KindHint     Kind = 10 // what looks show may have changed, to those who look: package home
	KindStatus   Kind = 11 // what time it is, and how the node is; a request: package server
	KindJoined   Kind = 12 // what a home says to KindJoin and KindAnnounce: package home
	KindWarm     Kind = 13 // conversations that a node is about to take over; a request: package route
)

var kindNames = [...]string{
	KindSubmit: "submit", KindAnswer: "answer", KindPublish: "publish", KindPush: "push", KindJoin: "join", KindLeave: "leave",
	KindAnnounce: "announce", KindReplace: "replace", KindBehind: "behind", KindHint: "hint", KindStatus: "status", KindJoined: "joined",
	KindWarm: "warm",
}

// String returns the kind's stable name, as in metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// Role is a part of pim that a node runs.
type Role uint8

// The roles. A node has any of them.
const (
	RoleGateway Role = 1 << iota // takes connections
	RoleWriter                   // writes conversations
	RoleHome                     // knows where its users' devices are
	RoleLBS                      // tells clients which gateway to dial
)

// AllRoles is what a node has that was not told otherwise.
const AllRoles = RoleGateway | RoleWriter | RoleHome | RoleLBS

// Has reports whether r has all roles of o.
func (r Role) Has(o Role) bool { return r&o == o }

var roleNames = []struct {
	role Role
	name string
}{{RoleGateway, "gateway"}, {RoleWriter, "writer"}, {RoleHome, "home"}, {RoleLBS, "lbs"}}

// String returns the names of the roles with commas between them. Those of a later version are left out.
func (r Role) String() string {
	var names []string
	for _, n := range roleNames {
		if r.Has(n.role) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRoles reads the names of one role or of several, with commas between them. Errors are of
// KindInvalid.
func ParseRoles(text string) (Role, error) {
	var roles Role
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		before := roles
		for _, n := range roleNames {
			if n.name == name {
				roles |= n.role
			}
		}
		if roles == before {
			return 0, pim.Errorf(pim.KindInvalid, "%q is none of the roles %s, or is named twice", name, AllRoles)
		}
	}
	return roles, nil
}

// Node is what a node tells the others of itself.
type Node struct {
	Name     string // the same at each start, since others keep a little for each name; see CheckName
	Run      uint64 // of this process: greater than that of any earlier one of the name
	Protocol uint32 // the newest version of the bodies that it understands
	Site     string // the data centre, see CheckName
	Roles    Role
	Weight   uint32 // its share of conversations and users compared to that of others; 0: none
	Draining bool   // it is about to stop, and takes over nothing new
	Address  string // the URLs at which clients reach its gateway, one for each transport, with commas between them; "": it has none
	Load     Load
}

// Load is how busy a node is, and what its gateway can take. A node that is no gateway has none, and one of an earlier
// version says nothing but MaxConnections: then AcceptRate is 0.
type Load struct {
	Connections, MaxConnections int
	AcceptRate                  int   // new connections that are let in in a second
	Memory                      int64 // bytes that further connections may take, garbage not counted as taken
	WebSocket, TCP              int64 // bytes that one connection takes, about, by its transport
	Unready                     bool  // it can't serve clients now
}

// View is which nodes are there, as one node sees it. Two nodes may see different views for a
// while. It must not be changed.
type View struct {
	Nodes []Node // by name, each once; the node's own is among them
}

// Node returns the node of that name, nil if it is not in the view. The result must not be changed.
func (v *View) Node(name string) *Node {
	i, ok := slices.BinarySearchFunc(v.Nodes, name, func(n Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil
	}
	return &v.Nodes[i]
}

// Bus is one node's place in the cluster. All methods may be called concurrently. Errors are
// *pim.Error, of KindInvalid if the arguments are wrong and of KindUnavailable otherwise, or the
// context's error.
type Bus interface {
	// Start joins the others and begins to call h. It returns when the node is in its own view; the
	// others come into it as they are heard of. Start is called once, before Send and Request.
	Start(ctx context.Context, h *Handler) error

	// Self returns the name of this node.
	Self() string

	// View returns the nodes that are there now. A node that is not heard of for some seconds
	// leaves the view.
	View() *View

	// Update has change change what the others are told of this node, but for Name, Run and Protocol. What
	// was changed before Start is in the first word that they hear of it.
	Update(change func(*Node))

	// Send hands a message to another node, and never waits. If it fails, the message is lost, and to
	// will be told of a gap, if it is reached at all. An error of nil promises nothing. The body is the
	// caller's again when Send returns.
	Send(to string, k Kind, body []byte) error

	// Request sends a request to another node and waits for its answer. After an error that is
	// not the answering node's own the request may have been carried out, or may be later. Requests are in no order
	// with messages and with each other. The caller owns the answer.
	Request(ctx context.Context, to string, k Kind, body []byte) ([]byte, error)

	// Close leaves the others at once and waits for the calls of the Handler.
	Close()
}

// Handler is what a node does with what comes. The functions are set before Bus.Start. Bodies are
// valid until the function returns.
type Handler struct {
	// Receive takes the messages of a kind. Those of one sender come one after the other, in the order in which
	// they were sent, whatever their kind: so it must not wait.
	Receive map[Kind]func(from string, body []byte)

	// Answer takes the requests of a kind, each in a goroutine of its own. ctx ends when the asking
	// node waits no longer, at the latest after some seconds, and when the bus closes.
	Answer map[Kind]func(ctx context.Context, from string, body []byte) ([]byte, error)

	// Gap is told that messages from a node may have been lost since the last one that was received.
	// It is called in order with Receive, and also when the node has left the view or has been
	// started again, unless it has closed and all that it sent has come.
	Gap []func(from string)

	// Changed is told of new views, one after the other, also of the first one, before Start returns. While
	// a function still runs, views that are replaced by newer ones are left out. A change of a Load alone
	// is not told: View has it within seconds, with what the node says once a second anyway.
	Changed []func(*View)
}

// CheckName returns why a name can't be that of a node or a site, nil if it can: it has 1 to 64
// letters a to z, digits and hyphens, and begins with a letter or a digit.
func CheckName(what, name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '-' && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) < 0
	if !ok {
		return pim.Errorf(pim.KindInvalid, "%s %q: a name has 1 to 64 letters a to z, digits and hyphens, and begins with no hyphen", what, name)
	}
	return nil
}
