package server_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// lists waits until the app's lists have these invitations, and these other conversations, in any order.
func (a *app) lists(invitations, others []pim.ConversationID) {
	a.t.Helper()
	ids := func(list []client.Info, err error) (ids []pim.ConversationID) {
		if err != nil {
			a.t.Fatal(err)
		}
		for _, info := range list {
			if info.Unread != 0 || info.Invited && (info.Left || info.Last.Sender != "eve") {
				return []pim.ConversationID{"what is said of it is wrong"}
			}
			ids = append(ids, info.ID)
		}
		slices.Sort(ids)
		return ids
	}
	slices.Sort(others)
	patience := time.After(5 * time.Minute)
	for {
		invited, rest := ids(a.Invitations(a.t.Context())), ids(a.Conversations(a.t.Context()))
		if slices.Equal(invited, invitations) && slices.Equal(rest, others) {
			return
		}
		select {
		case <-a.Events():
		case <-patience:
			a.t.Fatalf("%s lists the invitations %v and the conversations %v, want %v and %v", a.User(), invited, rest, invitations, others)
		}
	}
}

// A stranger's invitation reaches devices that are connected, devices that come later, and new ones. It is among the conversations of
// none of them until it is taken.
func TestInvitations(t *testing.T) {
	c := config(t)
	c.Consent = true
	n := start(t, c, server.Options{})
	type list = []pim.ConversationID
	eve, phone := n.connect("eve", "1", "tcp"), n.connect("alice", "phone", "tcp")
	first := eve.do(eve.CreateGroup(t.Context(), []pim.UserID{"alice"})).Conversation
	phone.lists(list{first}, nil)
	eve.says(first, "hi")
	laptop := n.connect("alice", "laptop", "http")
	laptop.lists(list{first}, nil)
	phone.do(phone.Conversation(first).Accept(t.Context()))
	phone.says(first, "here I am")
	phone.lists(nil, list{first})
	laptop.lists(nil, list{first})

	second := eve.do(eve.CreateGroup(t.Context(), nil)).Conversation
	eve.says(second, "one")
	eve.do(eve.Join(t.Context(), second, "alice"))
	eve.says(second, "two")
	phone.lists(list{second}, list{first})
	laptop.lists(list{second}, list{first})
	laptop.do(laptop.Conversation(second).Decline(t.Context()))
	phone.lists(nil, list{first, second})
	laptop.lists(nil, list{first, second})
	if info, err := phone.Conversation(second).Info(t.Context()); err != nil || !info.Left || info.Unread != 0 {
		t.Errorf("what she has declined: %+v, %v", info, err)
	}

	phone.do(phone.SetAdders(t.Context(), pim.AddersAll))
	if phone.Adders() != pim.AddersAll {
		t.Errorf("%s add her", phone.Adders())
	}
	third := eve.do(eve.CreateGroup(t.Context(), []pim.UserID{"alice"})).Conversation
	phone.lists(nil, list{first, second, third})
	phone.do(phone.SetAdders(t.Context(), pim.AddersKnown))
	phone.do(phone.Block(t.Context(), "eve", true))
	eve.do(eve.CreateGroup(t.Context(), []pim.UserID{"alice"}))
	phone.do(phone.Block(t.Context(), "eve", false))
	fourth := eve.do(eve.CreateGroup(t.Context(), []pim.UserID{"alice"})).Conversation
	phone.lists(list{fourth}, list{first, second, third})
	eve.do(eve.Leave(t.Context(), fourth, "alice"))
	phone.lists(nil, list{first, second, third, fourth})
}
