// Command echobot answers every direct message with its text.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	bot, err := client.Open(ctx, client.Options{
		Server: "http://127.0.0.1:7400", Device: "echobot",
		Token: func(context.Context) (string, error) { return os.Getenv("PIM_TOKEN"), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	context.AfterFunc(ctx, func() { bot.Close() })
	for ev := range bot.Events() {
		e, ok := ev.(client.EntryEvent)
		if !ok || e.Entry.Kind != pim.EntryMessage || e.Entry.Conversation.IsGroup() || e.Entry.Sender == bot.User() {
			continue
		}
		if _, err := bot.Send(ctx, e.Entry.Conversation, e.Entry.Payload); err != nil {
			log.Print(err)
		}
	}
}
