package client

import (
	"context"

	"github.com/pim-im/pim"
)

// Sending is a message on its way.
type Sending struct {
	id   pim.ClientMessageID
	done chan struct{}
}

// ID returns the client message ID.
func (s *Sending) ID() pim.ClientMessageID { return s.id }

// Done is closed when the message was sent or has failed.
func (s *Sending) Done() <-chan struct{} { return s.done }

// Wait waits for Done, or for ctx.
func (s *Sending) Wait(ctx context.Context) (Sent, error) { return Sent{}, errNotYet }
