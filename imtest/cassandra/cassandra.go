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
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim/imtest/fault"
)

// Cluster is some nodes of Cassandra. Start and StartCentres make one.
type Cluster struct {
	net    int // the nodes are at 127.0.net.1, .2 …
	script string
	env    []string
	data   string
	lock   *os.File       // held while the nodes have their addresses
	far    []*fault.Proxy // where the nodes reach each other; none: at their own addresses
	held   *exec.Cmd
	stdin  io.Closer // when it is closed, the nodes end
}

// Start starts nodes on addresses of this machine that are free, and returns when all of them serve
// CQL. The first time on a machine it takes minutes, later some 10 s of CPU for each node. It needs
// Linux, Java and, the first time, Maven; what is missing is told by the error. Who starts a
// cluster stops it.
func Start(nodes int) (*Cluster, error) { return start(nodes, 1, 0) }

// StartCentres is Start for nodes each of which is a data centre of its own: dc1, dc2 …
func StartCentres(nodes int) (*Cluster, error) { return start(nodes, nodes, 0) }

// StartFar is StartCentres for data centres that are apart: what one node sends to another arrives there after delay.
func StartFar(nodes int, delay time.Duration) (*Cluster, error) { return start(nodes, nodes, delay) }

// farOff is how much the last number of the address at which a node is reached by others is greater than that
// of its own, if they are apart.
const farOff = 100

func start(nodes, centres int, delay time.Duration) (*Cluster, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	c := &Cluster{script: filepath.Join(root, "tools", "cassandra.sh")}
	if c.net, c.lock, err = freeNet(nodes); err != nil {
		return nil, err
	}
	data := os.TempDir()
	if room("/dev/shm") >= uint64(nodes)*nodeBytes {
		data = "/dev/shm"
	}
	c.data = fmt.Sprintf("%s/pim-cassandra-%d-%d", data, os.Getuid(), c.net)
	c.env = append(os.Environ(), fmt.Sprintf("CASSANDRA_NET=%d", c.net), fmt.Sprintf("CASSANDRA_DCS=%d", centres), "CASSANDRA_DATA="+c.data)
	if err := c.apart(nodes, delay); err != nil {
		c.release()
		return nil, err
	}
	c.held = exec.Command(c.script, "hold", fmt.Sprint(nodes))
	c.held.Env = c.env
	c.held.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the test alone
	begun := false
	defer func() {
		if !begun {
			c.release()
		}
	}()
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
	begun = true // Stop ends what there is
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
	c.release()
}

// apart puts a proxy before each node, through which the others reach it, if there is a delay between them.
func (c *Cluster) apart(nodes int, delay time.Duration) error {
	if delay == 0 {
		return nil
	}
	c.env = append(c.env, fmt.Sprintf("CASSANDRA_FAR=%d", farOff))
	for i := 1; i <= nodes; i++ {
		p, err := fault.Listen(fmt.Sprintf("127.0.%d.%d:7000", c.net, farOff+i), c.Host(i)+":7000", uint64(i))
		if err != nil {
			return err
		}
		c.far = append(c.far, p)
		if err := p.Set(fault.Symmetric(fault.Path{Delay: delay})); err != nil {
			return err
		}
	}
	return nil
}

// release gives the nodes' addresses back.
func (c *Cluster) release() {
	for _, p := range c.far {
		p.Close()
	}
	c.lock.Close()
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

// Nodetool runs Cassandra's nodetool on a node, and returns what it printed.
func (c *Cluster) Nodetool(node int, args ...string) (string, error) {
	cmd := exec.Command(c.script, append([]string{"nodetool", fmt.Sprint(node)}, args...)...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nodetool %s of node %d: %w: %s", strings.Join(args, " "), node, err, out)
	}
	return string(out), nil
}

// Tables returns the directory in which a node has the tables of a keyspace, each in a directory NAME-ID.
func (c *Cluster) Tables(node int, keyspace string) string {
	return filepath.Join(c.data, fmt.Sprintf("node%d", node), "data", "data", keyspace)
}

// ticks are how many parts of a second Linux tells CPU time in.
const ticks = 100

// CPU returns how much CPU time a node has used since it began.
func (c *Cluster) CPU(node int) (time.Duration, error) {
	pid, err := os.ReadFile(filepath.Join(c.data, fmt.Sprintf("node%d", node), "pid"))
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may hold anything, the time of the process is the 12th field, and that of the kernel for it the 13th.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("the CPU time of node %d: %q", node, stat)
	}
	var used time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("the CPU time of node %d: %w", node, err)
		}
		used += time.Duration(n) * time.Second / ticks
	}
	return used, nil
}

// Set replaces a line of a node's cassandra.yaml, which the node reads when it begins.
func (c *Cluster) Set(node int, setting, value string) error {
	path := filepath.Join(c.data, fmt.Sprintf("node%d", node), "cassandra.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(setting) + `:.*$`)
	if !line.Match(text) {
		return fmt.Errorf("%s has no setting %s", path, setting)
	}
	return os.WriteFile(path, line.ReplaceAll(text, []byte(setting+": "+value)), 0o600)
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

// freeNet returns a number whose addresses are free for so many nodes, and the lock by which other
// processes know that they are taken, also before the nodes listen.
func freeNet(nodes int) (n int, lock *os.File, err error) {
	for range 50 {
		n = 1 + rand.IntN(200)
		lock, err = os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("pim-cassandra-%d-%d.lock", os.Getuid(), n)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, nil, err
		}
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			if err = probe(n, nodes); err == nil {
				return n, lock, nil
			}
		}
		lock.Close()
	}
	return 0, nil, fmt.Errorf("no address is free for Cassandra: %w", err)
}

// probe returns an error if a port that the nodes need is taken: those for CQL, between nodes, and for JMX.
func probe(n, nodes int) error {
	for i := 1; i <= nodes; i++ {
		for _, address := range []string{
			fmt.Sprintf("127.0.%d.%d:9042", n, i), fmt.Sprintf("127.0.%d.%d:7000", n, i), fmt.Sprintf("127.0.0.1:%d", 10000+n*8+i),
		} {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			l.Close()
		}
	}
	return nil
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
