package client_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/clienttest"
)

// Alice writes to Bob, who prints what he is sent.
func Example() {
	server, err := clienttest.Listen(clienttest.NewServer(func() pim.Millis { return pim.MillisOf(time.Now()) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx := context.Background()
	open := func(user pim.UserID) *client.Client {
		c, err := client.Open(ctx, client.Options{
			Server: server.URL, // http://127.0.0.1:7400 of a pim server
			Token:  func(context.Context) (string, error) { return string(user), nil },
			Device: "phone",
		})
		if err != nil {
			panic(err)
		}
		return c
	}

	alice := open("alice")
	defer alice.Close()
	sending, err := alice.Send(ctx, pim.Direct("alice", "bob"), []byte("hi Bob"))
	if err != nil {
		fmt.Println(err)
		return
	}
	sent, err := sending.Wait(ctx)
	fmt.Println("sent at seq", sent.Seq, err)

	bob := open("bob")
	defer bob.Close()
	for event := range bob.Events() {
		if e, ok := event.(client.EntryEvent); ok {
			fmt.Printf("%s: %s\n", e.Entry.Sender, e.Entry.Payload)
			break
		}
	}
	// Output:
	// sent at seq 1 <nil>
	// alice: hi Bob
}
