// Command echobot answers every direct message once, with the message's text. It may be
// killed at any moment: when it runs again, it answers what it had not answered.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

func main() {
	server := flag.String("server", "http://127.0.0.1:7400", "URL of the server")
	file := flag.String("store", "echobot.db", "file for what must outlive the process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, err := sqlite.Open(ctx, *file)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	err = run(ctx, client.Options{
		Server: *server, Device: "echobot", Store: store, Confirm: true,
		Token: token,
	}, echo)
	if err != nil {
		log.Fatal(err)
	}
}

// token returns what the file named by PIM_TOKEN_FILE holds now, so that a new token can
// be written there in time. Without PIM_TOKEN_FILE it returns PIM_TOKEN; the server
// refuses the bot once that token has expired.
func token(context.Context) (string, error) {
	if file := os.Getenv("PIM_TOKEN_FILE"); file != "" {
		data, err := os.ReadFile(file)
		return strings.TrimSpace(string(data)), err
	}
	return os.Getenv("PIM_TOKEN"), nil
}

// run runs the bot until ctx ends or an error occurs that the bot cannot mend. It calls
// answer with every entry, and after a restart again with those that were not confirmed.
func run(ctx context.Context, o client.Options, answer func(context.Context, *client.Client, client.EntryEvent) error) error {
	bot, err := client.Open(ctx, o)
	if err != nil {
		return err
	}
	defer bot.Close()
	context.AfterFunc(ctx, func() { bot.Close() }) // ends Events
	failed, err := bot.Outbox(ctx)                 // includes what failed in an earlier process
	if err != nil {
		return err
	}
	for _, m := range failed {
		if m.State == client.Failed {
			sendAgain(ctx, bot, m.ID, m.Err)
		}
	}
	for ev := range bot.Events() {
		switch ev := ev.(type) {
		case client.EntryEvent:
			if err := answer(ctx, bot, ev); err != nil && ctx.Err() == nil {
				return err
			}
		case client.SendEvent:
			if ev.State == client.Failed {
				sendAgain(ctx, bot, ev.ID, ev.Err)
			}
		case client.StateEvent:
			switch {
			case ev.State == client.Stopped: // only a person can decide how to go on
				return ev.Err
			case ev.Err != nil: // the network, or a token that is refused
				log.Printf("no connection, trying again in %v: %v", ev.RetryIn.Round(100*time.Millisecond), ev.Err)
			}
		}
	}
	return nil
}

// echo answers a direct message and confirms it, in one transaction. It only confirms
// every other entry. While the outbox is full, echo waits: after a long absence there is
// more to answer than the server takes at once.
func echo(ctx context.Context, bot *client.Client, e client.EntryEvent) error {
	var answers []client.Answer
	if e.Entry.Kind == pim.EntryMessage && !e.Entry.Conversation.IsGroup() && e.Entry.Sender != bot.User() {
		answers = append(answers, client.Answer{Payload: e.Entry.Payload})
	}
	for {
		_, err := bot.Confirm(ctx, e, answers...)
		if pim.KindOf(err) != pim.KindOverloaded {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendAgain sends a failed answer again if it failed because no reply came in time, or
// because the server was busy for long. The answer keeps its ID, so it still has one
// effect. If the server has refused the answer for good, sendAgain gives it up.
func sendAgain(ctx context.Context, bot *client.Client, id pim.ClientMessageID, why *pim.Error) {
	var err error
	if why.Kind.Retryable() {
		_, err = bot.Resend(ctx, id)
	} else {
		log.Printf("an answer was refused: %v", why)
		err = bot.Discard(ctx, id)
	}
	if err != nil && ctx.Err() == nil {
		log.Printf("an answer that has failed (%v) stays in the outbox: %v", why, err)
	}
}
