// Package cassandra runs nodes of Apache Cassandra for tests, by tools/cassandra.sh. They keep
// their data in memory, and end with the process that has started them, however that ends.
package cassandra

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Cluster is some nodes of Cassandra, in one data centre. Start makes one.
type Cluster struct {
	net    int // the nodes are at 127.0.net.1, .2 …
	script string
	env    []string
	held   *exec.Cmd
	stdin  io.Closer // when it is closed, the nodes end
}

// Start starts nodes on addresses of this machine that are free, and returns when all of them serve
// CQL. The first time on a machine it takes minutes, later some 10 s of CPU for each node. It needs
// Linux, Java and, the first time, Maven; what is missing is told by the error. Who starts a
// cluster stops it.
func Start(nodes int) (*Cluster, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	free, err := freeNet()
	if err != nil {
		return nil, err
	}
	c := &Cluster{net: free, script: filepath.Join(root, "tools", "cassandra.sh")}
	data := os.TempDir()
	if room("/dev/shm") >= uint64(nodes)*nodeBytes {
		data = "/dev/shm"
	}
	c.env = append(os.Environ(),
		fmt.Sprintf("CASSANDRA_NET=%d", free),
		fmt.Sprintf("CASSANDRA_DATA=%s/pim-cassandra-%d-%d", data, os.Getuid(), free))
	c.held = exec.Command(c.script, "hold", fmt.Sprint(nodes))
	c.held.Env = c.env
	c.held.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the test alone
	stderr, err := os.CreateTemp("", "pim-cassandra")
	if err != nil {
		return nil, err
	}
	defer os.Remove(stderr.Name())
	defer stderr.Close()
	c.held.Stderr = stderr
	if c.stdin, err = c.held.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.held.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.held.Start(); err != nil {
		return nil, err
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		c.Stop()
		why, _ := os.ReadFile(stderr.Name())
		return nil, fmt.Errorf("no Cassandra to test with; make test-embedded does without:\n%s%s", line, why)
	}
	return c, nil
}

// Stop ends the nodes, and waits for that. Their data is gone.
func (c *Cluster) Stop() {
	c.stdin.Close()
	_ = c.held.Wait()
}

// Host returns the address of a node, from 1. Its port for CQL is 9042.
func (c *Cluster) Host(node int) string { return fmt.Sprintf("127.0.%d.%d", c.net, node) }

// Do does something to a node: pause, resume, kill, begin or ready, see tools/cassandra.sh.
func (c *Cluster) Do(node int, what string) error {
	cmd := exec.Command(c.script, "node", fmt.Sprint(node), what)
	cmd.Env = c.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s of node %d: %w: %s", what, node, err, out)
	}
	return nil
}

// nodeBytes is how much room a node may need: its commit log has up to 256 MiB.
const nodeBytes = 1 << 30

// room returns how many bytes are free in dir, 0 if that is not known.
func room(dir string) uint64 {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return 0
	}
	return usage.AvailBytes
}

func freeNet() (int, error) {
	var err error
	for range 20 {
		n := 1 + rand.IntN(200)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.%d.1:9042", n)); err == nil {
			return n, l.Close()
		}
	}
	return 0, fmt.Errorf("no address is free for Cassandra: %w", err)
}

// moduleRoot returns the folder of the go.mod above the working directory, which is that of the
// package under test.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
