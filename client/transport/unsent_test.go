//go:build linux || darwin

package transport

import (
	"net"
	"testing"
	"time"
)

// Bytes that the server has not read count as written only as far as the network holds
// them, not as far as this side's kernel could hold them.
func TestWrittenIsOnItsWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	line := NewTCP(conn)
	defer line.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- line.Write([][]byte{make([]byte, 1<<20)}) }()
	for time.Since(line.Written()) < 100*time.Millisecond {
		select {
		case err := <-done:
			t.Fatalf("a MiB that nobody has read is written, %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	line.Close()
	<-done
}
