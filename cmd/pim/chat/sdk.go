package chat

import (
	"context"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// sdk is a client as a Backend.
type sdk struct {
	*client.Client

	mu   sync.Mutex
	view *client.View // of the open conversation; nil: none
}

var _ Backend = (*sdk)(nil)

func (s *sdk) Do(ctx context.Context, e Effect) (pim.ClientMessageID, error) {
	return Do(ctx, s.Client, e)
}

// List returns the invitations behind the conversations.
func (s *sdk) List(ctx context.Context) ([]client.Info, error) {
	list, err := s.Conversations(ctx)
	if err != nil {
		return nil, err
	}
	invitations, err := s.Invitations(ctx)
	return append(list, invitations...), err
}

func (s *sdk) Message(ctx context.Context, id pim.ConversationID, seq pim.Seq) (client.Message, error) {
	return s.Conversation(id).Message(ctx, seq)
}

func (s *sdk) Open(ctx context.Context, id pim.ConversationID, n int) error {
	view, err := s.Conversation(id).Messages(ctx, n)
	if err != nil {
		return err
	}
	s.mu.Lock()
	view, s.view = s.view, view
	s.mu.Unlock()
	if view != nil {
		view.Close()
	}
	return nil
}

func (s *sdk) opened() *client.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *sdk) Items() []client.Message {
	if view := s.opened(); view != nil {
		return view.Items()
	}
	return nil
}

func (s *sdk) Older(ctx context.Context, n int) (more bool, err error) {
	if view := s.opened(); view != nil {
		return view.Older(ctx, n)
	}
	return false, nil
}
