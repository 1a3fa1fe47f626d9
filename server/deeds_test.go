package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// The settings reach the writers: a user who may write to one stranger an hour is told so about the second, with
// a time; what follows for the first is delivered, and a free user is not bounded.
func TestStrangersOfAServer(t *testing.T) {
	c := config(t)
	c.UserStrangers, c.FreeUsers = 1, "bot"
	n := start(t, c, server.Options{})
	eve, bot := n.connect("eve", "1", "tcp"), n.connect("bot", "1", "http")
	go func() {
		for range bot.Events() {
		}
	}()
	for i := range 3 {
		bot.says(pim.Direct("bot", pim.UserID(fmt.Sprint("u", i))), "hi")
	}
	sending, err := eve.Send(t.Context(), pim.Direct("eve", "alice"), []byte("hi"))
	if err != nil {
		t.Fatal(err)
	}
	eve.done(sending)
	n.refuses(eve, pim.Direct("eve", "carol"), "strangers", "for the first time")
}

// So does the bound on what a user stores in a day.
func TestBytesOfAServer(t *testing.T) {
	c := config(t)
	c.UserBytes = 1000
	n := start(t, c, server.Options{})
	eve := n.connect("eve", "1", "tcp")
	eve.says("d:alice:eve", strings.Repeat("x", 2000))
	n.refuses(eve, "d:alice:eve", "user_bytes", "in a day")
}

// refuses has a send something that is refused with a time, in a text with these words, and counted for reason.
func (n *node) refuses(a *app, c pim.ConversationID, reason, words string) {
	n.t.Helper()
	refused, err := a.Send(n.t.Context(), c, []byte("hi"))
	if err != nil {
		n.t.Fatal(err)
	}
	patience := time.After(5 * time.Minute)
	for told := false; !told; {
		select {
		case ev := <-a.Events():
			if s, ok := ev.(client.SendEvent); ok && s.ID == refused.ID() && s.Err != nil {
				told = true
				if pim.KindOf(s.Err) != pim.KindOverloaded || s.RetryIn <= 0 || !strings.Contains(s.Err.Error(), words) {
					n.t.Errorf("told %v, again in %v", s.Err, s.RetryIn)
				}
			}
		case <-patience:
			n.t.Fatal("nothing is said")
		}
	}
	if n.metric(`pim_send_refusals_total{reason="`+reason+`"}`) < 1 {
		n.t.Error("the refusal is not counted")
	}
}
