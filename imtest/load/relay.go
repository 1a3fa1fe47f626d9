package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
)

// The two users of a room send the same frames as to a server, and each answers a
// message as a server would, with a PIMSendAck of the same size. So messages and
// answers cost the generator and the network the same as with a server, and the relay
// between the users does the least that is possible.

// typeRoom is the frame type of a connection's first frame to the relay: the
// number of its room follows in 4 bytes. Two connections are a room.
const typeRoom = 0xf0

// roomSize returns how many bytes the first frame takes with its header.
func (f framing) roomSize() int {
	if f == wsFraming {
		return 6 + 5
	}
	return 4 + 5
}

// relayPath is where the relay upgrades to WebSocket.
const relayPath = "/relay"

// dialRelay connects to one side of a room.
func dialRelay(ctx context.Context, server string, room uint32) (*link, error) {
	l, err := dial(ctx, server, relayPath)
	if err != nil {
		return nil, err
	}
	b, start := l.begin(nil, 5, ws.OpBinary)
	b = append(b, typeRoom)
	b = binary.BigEndian.AppendUint32(b, room)
	l.end(b, start)
	if _, err := l.nc.Write(b); err != nil {
		l.nc.Close()
		return nil, broken(err)
	}
	return l, nil
}

// runRelay runs the load of Direct through a relay. It starts the relay if
// Config.RelayCommand is set.
func runRelay(ctx context.Context, cfg *Config) (Report, error) {
	if len(cfg.RelayCommand) == 0 {
		return runChat(ctx, cfg)
	}
	child, addr, err := startRelay(ctx, cfg.RelayCommand)
	if err != nil {
		return Report{}, err
	}
	defer func() {
		child.Process.Kill()
		child.Wait() // it was killed, so its status says nothing
	}()
	scheme, _, _ := strings.Cut(cfg.Server, "://")
	cfg.Server = scheme + "://" + addr
	cfg.MetricsURL = fmt.Sprintf("http://%s/metrics", addr)
	return runChat(ctx, cfg)
}

// startRelay starts a relay in a process of its own, so that its cost can be
// told from the generator's, and returns its address.
func startRelay(ctx context.Context, command []string) (*exec.Cmd, string, error) {
	child := exec.CommandContext(ctx, command[0], command[1:]...)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		return nil, "", pim.Errorf(pim.KindInternal, "starting the relay: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		child.Process.Kill()
		child.Wait()
		return nil, "", pim.Errorf(pim.KindInternal, "the relay %q printed no address: %w", command, err)
	}
	fields := strings.Fields(line)
	return child, fields[len(fields)-1], nil
}
