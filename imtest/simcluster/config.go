package simcluster

import (
	"time"

	"github.com/pim-im/pim"
)

// Config says what is played.
type Config struct {
	Users int // at least 2
	Nodes int // at least 2, each with all roles

	Members  int           // of each conversation; 2: a direct one
	Messages int           // in all
	Every    time.Duration // between two messages of one conversation, on the average
	Payload  int           // bytes of a message's text
	Seed     uint64
}

// What the model takes for granted.
const (
	conversations = 64 // that are played at once
	commitTime    = 20 * time.Millisecond
	hop           = 500 * time.Microsecond // from one node to another
	askAgain      = 2 * time.Second        // after which a request without an answer is sent again
	heardWithin   = 5 * time.Second        // in which every node has heard of a change

	// Of 100 users, so many are connected with one device, and so many with two.
	oneDevice, twoDevices = 25, 10
)

// Bytes of messages between nodes, beside payloads and names. They are those of the frames of the bus
// and of route.proto and home.proto, rounded up.
const (
	frameBytes   = 24 // of one message: lengths, kind, number
	nameBytes    = 14 // of a user, a device or a conversation
	requestBytes = 24 + 3*nameBytes + 26
	answerBytes  = 48
	entryBytes   = 70 + 2*nameBytes // an encoded pim.Entry without its payload
	pushBytes    = 12 + nameBytes
)

func (c *Config) check() error {
	switch {
	case c.Users < 2, c.Nodes < 2:
		return pim.Errorf(pim.KindInvalid, "%d users on %d nodes; there are at least 2 of each", c.Users, c.Nodes)
	case c.Members < 2, c.Members > c.Users:
		return pim.Errorf(pim.KindInvalid, "conversations of %d of %d users", c.Members, c.Users)
	case c.Messages < 1, c.Every <= 0, c.Payload < 0:
		return pim.Errorf(pim.KindInvalid, "%d messages of %d bytes, one every %v", c.Messages, c.Payload, c.Every)
	}
	return nil
}

// Report is what a run has come to. The names of its fields in JSON are stable. All counts but those of
// changes are for one message.
type Report struct {
	Users   int `json:"users"`
	Nodes   int `json:"nodes"`
	Members int `json:"members"`

	Messages     int     `json:"messages"`     // all of them; each was answered
	Deliveries   float64 `json:"deliveries"`   // to connected devices
	Transactions float64 `json:"transactions"` // appends, the refused ones included
	Lookups      float64 `json:"lookups"`      // of placement

	Submits   float64 `json:"submits"` // messages of the bus, by kind
	Answers   float64 `json:"answers"`
	Publishes float64 `json:"publishes"`
	Pushes    float64 `json:"pushes"`
	BusBytes  float64 `json:"bus_bytes"`

	// What the two changes came to: of 100 conversations and homes how many have moved when the node
	// died; requests that were sent again; appends that were refused because another node had written
	// meanwhile; devices that were announced to another home, of 100; and pushes that were lost with
	// the node, of 100 deliveries.
	Moved     float64 `json:"moved_percent"`
	Again     int     `json:"asked_again"`
	Conflicts int     `json:"conflicts"`
	Announced float64 `json:"announced_percent"`
	Lost      float64 `json:"lost_pushes_percent"`

	// Heartbeats are what each node sends and receives in a second for the view, whatever the traffic, if
	// each tells each other once a second.
	Heartbeats int `json:"heartbeats_per_node_s"`
}

// BusMessages returns how many messages of the bus one message takes.
func (r *Report) BusMessages() float64 { return r.Submits + r.Answers + r.Publishes + r.Pushes }
