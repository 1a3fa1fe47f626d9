package limit

import (
	"fmt"
	"time"

	"github.com/pim-im/pim"
)

// Reason says which bound a connection or a login was refused for, a connection slowed
// down, or a request of a user refused. None is the zero value.
type Reason uint8

// The reasons. Their texts are the labels of metrics.
const (
	None             Reason = iota // it is let in
	Stopping                       // the node goes away
	Connections                    // the node has as many as it takes
	Files                          // no file descriptor is left
	Memory                         // the node's memory is above its mark
	Accept                         // all connections together come too fast
	Address                        // those of one address do
	Network                        // those of one network do
	UserLogins                     // a user logs in too often
	DeviceLogins                   // a device does
	UserConnections                // a user has as many connections as one may have
	ConnectionFrames               // a connection goes on sending too many frames
	ConnectionBytes                // too many bytes
	GroupsCreated                  // a user creates too many groups in an hour
	MembersAdded                   // adds too many users to groups
	Strangers                      // writes to too many strangers
	UserBytes                      // has too many bytes stored in a day
	Busy                           // work waits too long in the node's queues, see Overload
	Starting                       // the node does not know the others yet
	reasons
)

var texts = [reasons]struct{ label, text string }{
	None:            {"none", "let in"},
	Stopping:        {"stopping", "the server is shutting down"},
	Connections:     {"connections", "this node has as many connections as it takes"},
	Files:           {"files", "this node has no file descriptor for one more connection"},
	Memory:          {"memory", "this node has no memory for one more connection"},
	Accept:          {"accept_rate", "this node takes no more connections at this moment"},
	Address:         {"address_rate", "too many connections come from this address"},
	Network:         {"network_rate", "too many connections come from this network"},
	UserLogins:      {"user_logins", "this user logs in too often"},
	DeviceLogins:    {"device_logins", "this device logs in too often"},
	UserConnections: {"user_connections", "this user has as many connections as one may have"},

	ConnectionFrames: {"connection_frames", "this connection goes on sending more frames than one may"},
	ConnectionBytes:  {"connection_bytes", "this connection goes on sending more bytes than one may"},
	GroupsCreated:    {"groups_created", "the user has created as many groups as one may in an hour"},
	MembersAdded:     {"members_added", "the user has added as many members to groups as one may in an hour"},
	Strangers:        {"strangers", "the user has written to as many users for the first time as one may in an hour"},
	UserBytes:        {"user_bytes", "the user has stored as many bytes as one may in a day"},
	Busy:             {"overload", "this node has more to do than it can at this moment"},
	Starting:         {"starting", "the server is starting"},
}

// String returns the reason as metrics name it.
func (r Reason) String() string {
	if r >= reasons {
		return fmt.Sprintf("reason %d", uint8(r))
	}
	return texts[r].label
}

// Text returns what a client is told, and people may read.
func (r Reason) Text() string { return texts[min(r, reasons-1)].text }

// Kind returns the kind of the error that a client is told.
func (r Reason) Kind() pim.Kind {
	if r == Stopping || r == Starting {
		return pim.KindUnavailable
	}
	return pim.KindOverloaded
}

// A Verdict says whether somebody is let in. The zero Verdict lets in.
type Verdict struct {
	Reason Reason        // None: let in
	After  time.Duration // when to come back, at random already; positive unless let in
}

// Refused reports whether v does not let in.
func (v Verdict) Refused() bool { return v.Reason != None }

// Err returns v as an error with a time to come back, nil if v lets in.
func (v Verdict) Err() error {
	if !v.Refused() {
		return nil
	}
	return &pim.Error{Kind: v.Reason.Kind(), Text: v.Reason.Text(), RetryAfter: v.After}
}
