package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

// bots are the example, and broken ones that do what a first draft would do.
var bots = map[string]struct {
	answer  func(context.Context, *client.Client, client.EntryEvent) error
	confirm bool
}{
	"sound": {echo, true},
	"confirms first": {func(ctx context.Context, bot *client.Client, e client.EntryEvent) error {
		if _, err := bot.Confirm(ctx, e); err != nil {
			return err
		}
		return sends(ctx, bot, e)
	}, true},
	"answers first": {func(ctx context.Context, bot *client.Client, e client.EntryEvent) error {
		if err := sends(ctx, bot, e); err != nil {
			return err
		}
		_, err := bot.Confirm(ctx, e)
		return err
	}, true},
	"does not confirm": {sends, false},
}

func sends(ctx context.Context, bot *client.Client, e client.EntryEvent) error {
	if e.Entry.Kind != pim.EntryMessage || e.Entry.Sender == bot.User() {
		return nil
	}
	_, err := bot.Send(ctx, e.Entry.Conversation, e.Entry.Payload)
	return err
}

// TestMain runs a bot instead of the tests if ECHOBOT names one.
func TestMain(m *testing.M) {
	name := os.Getenv("ECHOBOT")
	if name == "" {
		goleak.VerifyTestMain(leaks.Patiently(m))
		return
	}
	ctx := context.Background()
	file, err := sqlite.Open(ctx, os.Getenv("ECHOBOT_STORE"))
	if err != nil {
		log.Fatal(err)
	}
	lives, err := strconv.Atoi(os.Getenv("ECHOBOT_LIVES"))
	if err != nil {
		log.Fatal(err)
	}
	err = run(ctx, client.Options{
		Server: os.Getenv("ECHOBOT_SERVER"), Device: "echobot", Confirm: bots[name].confirm,
		Store:      &fuse{Store: file, left: lives},
		Token:      func(context.Context) (string, error) { return "echobot", nil },
		BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}, bots[name].answer)
	log.Fatal(err)
}

// fuse is a store that kills its process with the left-th transaction: before it or right
// after it, at random. If left is 0, it never does.
type fuse struct {
	client.Store
	left int
}

func (f *fuse) Apply(ctx context.Context, b *client.Batch) error {
	f.left--
	if before := rand.IntN(2) == 0; f.left == 0 && before {
		killed()
	}
	err := f.Store.Apply(ctx, b)
	if f.left == 0 {
		killed()
	}
	return err
}

// killed kills this process with SIGKILL: nothing is flushed, closed or logged.
func killed() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		log.Fatal(err)
	}
	select {} // until the signal comes
}

const (
	conversations = 3
	lives         = 25
	end           = "the end"
)

// The bot is killed again and again at random moments, and many messages wait whenever it
// comes back. In the end it has answered each of them once. The same count finds out the
// bots that are broken on purpose.
func TestKilledBotAnswersOnce(t *testing.T) {
	for name := range bots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, name, seeds.First(t))
			missed, doubled := w.play()
			t.Logf("%d questions, %d killed bots; %d not answered, %d answered more than once", w.asked, w.kills, missed, doubled)
			switch sound := missed+doubled == 0; {
			case name == "sound" && !sound:
				t.Error("the example does not answer each message once")
			case name != "sound" && sound:
				t.Error("a broken bot was not found out")
			}
		})
	}
}

// trial is a server, and one bot after the other on one store.
type trial struct {
	t      *testing.T
	bot    string
	rng    *rand.Rand
	server *clienttest.Server
	on     *clienttest.Listener
	store  string
	asked  int
	kills  int
}

func newTrial(t *testing.T, bot string, seed uint64) *trial {
	w := &trial{t: t, bot: bot, rng: rand.New(rand.NewPCG(seed, 1)), store: filepath.Join(t.TempDir(), "bot.db")}
	w.server = clienttest.NewServer(func() pim.Millis { return pim.MillisOf(time.Now()) })
	var err error
	if w.on, err = clienttest.Listen(w.server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.on.Close)
	return w
}

func person(i int) pim.UserID { return pim.UserID(fmt.Sprint("person", i)) }

// asks sends the bot a message; its payload is unique.
func (w *trial) asks(from int, text string) {
	w.asked++
	id := pim.NewClientMessageID(time.Now())
	if err := w.server.Append(pim.Direct("echobot", person(from)), person(from), id, []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

// play lets bots live and die, and then lets one live until it has dealt with everything.
// It returns how many messages have no answer, and how many have several.
func (w *trial) play() (missed, doubled int) {
	for range lives {
		transactions := 1 + w.rng.IntN(40)
		// An answer takes at least one transaction, so the bot reaches the fatal one. Now
		// and then more messages wait than a page holds, which leaves a hole.
		for range transactions + w.rng.IntN(1+w.rng.IntN(200)) {
			w.asks(w.rng.IntN(conversations), fmt.Sprint("question ", w.asked))
		}
		w.live(transactions)
	}
	for i := range conversations {
		w.asks(i, fmt.Sprint(end, " of ", person(i)))
	}
	last := w.start(0)
	defer func() {
		_ = last.Process.Kill()
		_ = last.Wait() // it was killed, which Wait reports
	}()
	w.untilEnd()
	return w.count()
}

// start starts a bot that is killed with the transaction of this number; 0: never.
func (w *trial) start(transactions int) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "ECHOBOT="+w.bot, "ECHOBOT_STORE="+w.store, "ECHOBOT_SERVER="+w.on.TCP, fmt.Sprint("ECHOBOT_LIVES=", transactions))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// live lets a bot live for so many transactions.
func (w *trial) live(transactions int) {
	cmd := w.start(transactions)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		w.t.Fatalf("a bot ended by itself: %v", err)
	}
	w.kills++
}

// untilEnd waits until the bot has dealt with the last message of every conversation.
func (w *trial) untilEnd() {
	limit := time.Now().Add(5 * time.Minute) // ends a hanging test; decides nothing
	for i := range conversations {
		for w.answers()[fmt.Sprint(end, " of ", person(i))] == 0 {
			if time.Now().After(limit) {
				w.t.Fatalf("%s gets no answer to its last message", person(i))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// answers counts the bot's messages by their text.
func (w *trial) answers() map[string]int {
	times := make(map[string]int)
	for i := range conversations {
		for _, e := range w.server.Log(pim.Direct("echobot", person(i))) {
			if e.Sender == "echobot" {
				times[string(e.Payload)]++
			}
		}
	}
	return times
}

func (w *trial) count() (missed, doubled int) {
	times := w.answers()
	for i := range conversations {
		for _, e := range w.server.Log(pim.Direct("echobot", person(i))) {
			if e.Sender == "echobot" {
				continue
			}
			switch n := times[string(e.Payload)]; {
			case n == 0:
				missed++
			case n > 1:
				doubled++
			}
		}
	}
	return missed, doubled
}

// The server takes nothing for a while, and there is more to answer than the outbox
// holds: the bot waits, and then answers all of it.
func TestFullOutbox(t *testing.T) {
	const questions = 10_300
	w := newTrial(t, "sound", 1)
	var busy atomic.Bool
	busy.Store(true)
	w.server.Reject = func(*wirepb.PIMSendReq) *pim.Error {
		if busy.Load() {
			return &pim.Error{Kind: pim.KindOverloaded, Text: "busy", RetryAfter: 10 * time.Millisecond}
		}
		return nil
	}
	for i := range questions {
		w.asks(i%conversations, fmt.Sprint("question ", i))
	}
	store := client.NewMemory(client.MemoryOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, client.Options{
			Server: w.on.TCP, Device: "echobot", Store: store, Confirm: true,
			Token: func(context.Context) (string, error) { return "echobot", nil },
		}, echo)
	}()
	until := func(ok func() bool) {
		t.Helper()
		for limit := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(250 * time.Millisecond) { // ok looks through thousands of messages
			select {
			case err := <-ended:
				t.Fatalf("the bot ends: %v", err)
			default:
			}
			if time.Now().After(limit) { // ends a hanging test; decides nothing
				t.Fatal("it does not come")
			}
		}
	}
	until(func() bool {
		snapshot, err := store.Load(t.Context())
		return err == nil && len(snapshot.Outbox) == 10_000
	})
	busy.Store(false)
	until(func() bool { return len(w.answers()) == questions })
	if missed, doubled := w.count(); missed+doubled > 0 {
		t.Errorf("%d not answered, %d answered more than once", missed, doubled)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the bot ends: %v", err)
	}
}
