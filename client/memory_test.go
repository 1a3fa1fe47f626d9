package client_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() client.Store {
		m := client.NewMemory(client.MemoryOptions{})
		return func() client.Store { return m }
	})
}

func TestMemoryPositionsOnly(t *testing.T) {
	m := client.NewMemory(client.MemoryOptions{PositionsOnly: true})
	b := client.Batch{
		Conversations: []client.ConversationRow{{ID: "d:a:b", Known: 1, Newest: 1}},
		Entries:       []client.Stored{{Entry: pim.Entry{Conversation: "d:a:b", Seq: 1, Anchor: 1}, Number: 1}},
	}
	if err := m.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if list, err := m.Entries(t.Context(), "d:a:b", nil, 10); err != nil || len(list) > 0 {
		t.Errorf("%d messages kept, %v", len(list), err)
	}
	if s, err := m.Load(t.Context()); err != nil || len(s.Conversations) != 1 || s.Conversations[0].Known != 1 {
		t.Errorf("positions: %+v, %v", s, err)
	}
}
