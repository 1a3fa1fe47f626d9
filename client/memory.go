package client

import (
	"context"

	"github.com/pim-im/pim"
)

// MemoryOptions say what a memory store keeps.
type MemoryOptions struct {
	// PositionsOnly keeps positions and the outbox, but no entries: Messages
	// returns none. For load tools.
	PositionsOnly bool
}

// Memory is a Store that is forgotten with the process.
type Memory struct{ o MemoryOptions }

// NewMemory returns an empty Memory.
func NewMemory(o MemoryOptions) *Memory { return &Memory{o: o} }

// Load implements Store.
func (m *Memory) Load(context.Context) (Snapshot, error) { return Snapshot{}, nil }

// Apply implements Store.
func (m *Memory) Apply(context.Context, *Batch) error { return nil }

// Conversations implements Store.
func (m *Memory) Conversations(context.Context) ([]Conversation, error) { return nil, nil }

// Messages implements Store.
func (m *Memory) Messages(context.Context, pim.ConversationID, int) ([]pim.Entry, error) {
	return nil, nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
