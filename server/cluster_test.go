package server_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/route/routepb"
	"github.com/pim-im/pim/server"
)

// A node that stops lets its clients have the answers of the other nodes before it sends them away.
func TestAStopWaitsForTheAnswersOfOtherNodes(t *testing.T) {
	network := bustest.NewNetwork()
	a := network.Join(bus.Node{Name: "a", Roles: bus.RoleGateway | bus.RoleHome})
	b := network.Join(bus.Node{Name: "b", Roles: bus.RoleWriter})
	submitted, draining := make(chan []byte, 1), make(chan struct{})
	err := b.Start(t.Context(), &bus.Handler{
		Receive: map[bus.Kind]func(string, []byte){bus.KindSubmit: func(_ string, body []byte) {
			select {
			case submitted <- bytes.Clone(body):
			default: // it is sent again
			}
		}},
		Changed: []func(*bus.View){func(v *bus.View) {
			if n := v.Node("a"); n != nil && n.Draining {
				select {
				case <-draining:
				default:
					close(draining)
				}
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	n := start(t, config(t), server.Options{Bus: a})
	for a.View().Node("b") == nil {
		time.Sleep(10 * time.Millisecond)
	}
	alice := n.connect("alice", "1", "http")
	go func() {
		for range alice.Events() { // else the client reads no answers
		}
	}()
	sending, err := alice.Send(t.Context(), pim.Direct("alice", "bob"), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var m routepb.Submit
	if err := m.UnmarshalVT(<-submitted); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		n.stop()
		close(stopped)
	}()
	<-draining
	time.Sleep(300 * time.Millisecond) // else it might come in time by chance
	answer := routepb.Answers{Life: m.Life}
	for _, q := range m.Requests {
		answer.Answers = append(answer.Answers, &routepb.Answer{Number: q.Number, Seq: 7, ServerMs: time.Now().UnixMilli()})
	}
	body, err := answer.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Send("a", bus.KindAnswer, body); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if sent, err := sending.Wait(ctx); err != nil || sent.Seq != 7 {
		t.Errorf("the answer is %+v: %v", sent, err)
	}
	<-stopped
}

// A node that starts with a wrong clock writes its first message by the time of the others.
func TestANodeStartsWithAWrongClock(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, _ *server.Config, o *server.Options) {
		if name == "c" {
			o.Settle = 100 * time.Millisecond // less than the clocks of others take to be heard
			o.Clock = clock.Source{Now: func() time.Time { return time.Now().Add(-5 * time.Minute) }}
		}
	}, "a", "b", "c")
	before := time.Now()
	alice := nodes[2].connect("alice", "1", "http")
	for i := range 16 { // among the conversations are some that c writes
		sent := alice.says(pim.Direct("alice", pim.UserID(fmt.Sprint("bob", i))), "x")
		if off := sent.Server.Time().Sub(before); off < -time.Minute || off > time.Minute+time.Since(before) {
			t.Errorf("message %d is off by %v", i, off)
		}
	}
}
