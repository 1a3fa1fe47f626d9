package nats

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

// joinEnv makes the test binary a node that joins the address in it.
const joinEnv = "PIM_BUS_TEST_JOIN"

func TestMain(m *testing.M) {
	join := os.Getenv(joinEnv)
	if join == "" {
		goleak.VerifyTestMain(leaks.Patiently(m))
		return
	}
	if err := beNode(join); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beNode is a node called "process" that sends a message a millisecond to node a, until it is killed or
// its standard input ends.
func beNode(join string) error {
	b, err := New(Options{Self: self("process"), Listen: "127.0.0.1:0", Join: []string{join}})
	if err != nil {
		return err
	}
	if err := b.Start(context.Background(), &bus.Handler{}); err != nil {
		return err
	}
	defer b.Close()
	go func() {
		for range time.Tick(time.Millisecond) {
			if b.View().Node("a") != nil { // what is sent before is a gap, rightly
				_ = b.Send("a", bus.KindHint, []byte("alive"))
			}
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
	}
	return nil
}

// TestKilledProcess has a process killed that sends, and another one started in its place.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	n := newNodes(t, Options{})
	a := n.start("a")
	var run uint64
	for i := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), joinEnv+"="+a.ClusterAddr())
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		a.wait("the process in the view, and a message", func() bool {
			node := a.View().Node("process")
			return node != nil && node.Run > run && strings.HasSuffix(a.heard("process"), "alive ")
		})
		run = a.View().Node("process").Run
		// The first process was out of the view, which is a gap, when the second one came.
		if got := strings.Count(a.heard("process"), gap); got > 2*i {
			t.Errorf("%d gaps before a process is killed for the %dth time", got, i+1)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		stdin.Close()
		begin := time.Now()
		a.wait("a gap, and a view without the process", func() bool {
			return a.View().Node("process") == nil && strings.HasSuffix(a.heard("process"), gap+" ")
		})
		t.Logf("a killed process is out of the view after %s", time.Since(begin).Round(100*time.Millisecond))
	}
}
