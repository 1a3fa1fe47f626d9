package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(crowdEnv); spec != "" {
		play(spec)
	}
	goleak.VerifyTestMain(leaks.Patiently(m))
}

// A process with this variable plays the clients of BenchmarkTransports: it is a crowd, in JSON.
const crowdEnv = "PIM_TEST_CROWD"

// crowd is so many users with one connection each, to one server.
type crowd struct {
	Server, Keys string
	Users        int
}

// play connects all, and says so. For each line that it is given, each user sends itself one message and waits for the answer.
// It ends with its input.
func play(spec string) {
	var c crowd
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	die(json.Unmarshal([]byte(spec), &c))
	keys, err := account.LoadKeys(c.Keys)
	die(err)
	d, err := transport.NewDialer(c.Server, &tls.Config{InsecureSkipVerify: true}, nil)
	die(err)
	conns := make([]transport.Conn, c.Users)
	var wg sync.WaitGroup
	for part := range 20 {
		wg.Go(func() {
			for i := part; i < c.Users; i += 20 {
				conn, err := d.Dial(context.Background())
				die(err)
				token, err := keys.Issue(pim.UserID(fmt.Sprint("user-", i)), time.Hour, time.Now())
				die(err)
				die(conn.Write([][]byte{wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: "d"})}))
				_, err = conn.Read()
				die(err)
				conns[i] = conn
			}
		})
	}
	wg.Wait()
	fmt.Println("ready")
	line := make([]byte, 1)
	for round := byte(1); ; round++ {
		if _, err := io.ReadFull(os.Stdin, line); err != nil {
			os.Exit(0)
		}
		for i, conn := range conns {
			wg.Go(func() {
				user := pim.UserID(fmt.Sprint("user-", i))
				id := pim.NewClientMessageID(time.Now())
				die(conn.Write([][]byte{wire.Append(nil, &wirepb.PIMSendReq{Conversation: string(pim.Direct(user, user)), ClientMessageId: id[:], Payload: make([]byte, 100)})}))
				_, err := conn.Read()
				die(err)
			})
		}
		wg.Wait()
		fmt.Println("sent")
	}
}
