package load

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// fake is the smallest server that the generator can be tested with: it keeps its logs
// in memory and answers every frame in place. Its faults change what it does with a
// message, so that a test sees whether the generator notices.
type fake struct {
	faults
	web *httptest.Server
	tcp net.Listener

	mu     sync.Mutex
	logs   map[string]*fakeLog
	users  map[string]*fakeConn
	all    []*fakeConn
	closed bool
	work   sync.WaitGroup
	seen   map[wire.Type]int
	acks   map[string]uint64 // seq that was acknowledged, by "USER CONVERSATION"
}

// faults are what a fake does wrong; the zero value has none. The functions are called
// with each message's seq.
type faults struct {
	refuse    func(seq uint64) bool // answer with an error
	forget    func(seq uint64) bool // acknowledge, and keep an empty entry
	pushes    func(seq uint64) int  // how often it is pushed; default once
	hold      func(seq uint64) bool // push it behind the sender's next message
	sayBehind bool                  // push Behind in place of a push that is left out
	turnAway  int                   // how many TCP connections are closed as soon as they are there, -1: all
	twice     bool                  // answer every pull twice, as if it had been asked for twice
}

type fakeLog struct {
	members []string
	entries []*wirepb.Entry
	held    *wirepb.Entry
}

type fakeConn struct {
	nc   net.Conn
	read func() ([]byte, error)
	wrap func(frame []byte) []byte
	user string
	mu   sync.Mutex
}

func newFake(t *testing.T, f faults) *fake {
	s := &fake{faults: f, logs: map[string]*fakeLog{}, users: map[string]*fakeConn{}, seen: map[wire.Type]int{}, acks: map[string]uint64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# HELP %s x\n%[1]s %g\n%s 1e+06\n", cpuMetric, ownCPU(), rssMetric)
	})
	mux.HandleFunc(wire.WebSocketPath, func(w http.ResponseWriter, r *http.Request) {
		nc, _, _, err := ws.UpgradeHTTP(r, w)
		if err == nil {
			s.start(&fakeConn{
				nc:   nc,
				read: func() ([]byte, error) { return wsutil.ReadClientBinary(nc) },
				wrap: func(frame []byte) []byte { return ws.MustCompileFrame(ws.NewBinaryFrame(frame)) },
			})
		}
	})
	s.web = httptest.NewServer(mux)
	var err error
	if s.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.work.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

func (s *fake) close() {
	s.tcp.Close()
	s.web.Close()
	s.mu.Lock()
	s.closed = true
	for _, c := range s.all {
		c.nc.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

func (s *fake) accept() {
	for n := 0; ; n++ {
		nc, err := s.tcp.Accept()
		if err != nil {
			return
		}
		if s.turnAway < 0 || n < s.turnAway {
			nc.Close()
			continue
		}
		s.start(&fakeConn{
			nc:   nc,
			wrap: func(frame []byte) []byte { return wire.AppendTCP(nil, frame) },
			read: func() ([]byte, error) {
				var head [4]byte
				if _, err := io.ReadFull(nc, head[:]); err != nil {
					return nil, err
				}
				frame := make([]byte, binary.BigEndian.Uint32(head[:]))
				_, err := io.ReadFull(nc, frame)
				return frame, err
			},
		})
	}
}

// start serves c, or closes c if the fake was closed. An HTTP handler that has taken over
// its connection outlives web.Close, and nobody would wait for a goroutine started then.
func (s *fake) start(c *fakeConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.nc.Close()
		return
	}
	s.all = append(s.all, c)
	s.work.Go(func() {
		defer c.nc.Close()
		for {
			frame, err := c.read()
			if err != nil {
				return
			}
			s.handle(c, frame)
		}
	})
}

func (c *fakeConn) write(m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.Write(c.wrap(wire.Append(nil, m)))
}

func (s *fake) handle(c *fakeConn, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, m, err := wire.Decode(frame)
	if err != nil {
		panic(err)
	}
	s.seen[t]++
	switch m := m.(type) {
	case *wirepb.Hello:
		c.user = strings.TrimPrefix(m.Token, "token of ")
		s.users[c.user] = c
		c.write(&wirepb.Welcome{User: c.user, Limits: &wirepb.Limits{InFlight: 256, IdleMs: 100}})
	case *wirepb.PIMSendReq:
		s.send(c, m)
	case *wirepb.PIMPushAck:
		for _, a := range m.Acks {
			s.acks[c.user+" "+a.Conversation] = a.Seq
		}
	case *wirepb.PIMPullReq:
		s.pull(c, m)
		if s.twice {
			s.pull(c, m)
		}
	case *wirepb.PIMSyncReq:
		s.sync(c, m)
	case *wirepb.PIMPing:
		c.write(&wirepb.PIMPong{Nonce: m.Nonce})
	}
}

func (s *fake) send(c *fakeConn, m *wirepb.PIMSendReq) {
	if m.Kind == wirepb.EntryKind_ENTRY_KIND_CREATE {
		id, _ := wire.ClientID(m.ClientMessageId)
		m.Conversation = string(pim.NewGroup(pim.UserID(c.user), id))
		s.logs[m.Conversation] = &fakeLog{members: m.Members}
	}
	l := s.logs[m.Conversation]
	if l == nil {
		a, b, _ := pim.ConversationID(m.Conversation).DirectUsers()
		l = &fakeLog{members: []string{string(a), string(b)}}
		s.logs[m.Conversation] = l
	}
	e := &wirepb.Entry{
		Seq: uint64(len(l.entries)) + 1, Kind: max(m.Kind, wirepb.EntryKind_ENTRY_KIND_MESSAGE), Sender: c.user,
		ClientMessageId: m.ClientMessageId, LocalMs: m.LocalMs, ServerMs: time.Now().UnixMilli(), Payload: m.Payload,
	}
	if s.refuse != nil && s.refuse(e.Seq) {
		c.write(&wirepb.PIMError{Kind: wirepb.ErrorKind_ERROR_KIND_OVERLOADED, RetryAfterMs: 1, ClientMessageId: m.ClientMessageId})
		return
	}
	if s.forget != nil && s.forget(e.Seq) {
		e.Payload = nil
	}
	l.entries = append(l.entries, e)
	c.write(&wirepb.PIMSendAck{ClientMessageId: m.ClientMessageId, Conversation: m.Conversation, Seq: e.Seq})
	s.publish(m.Conversation, l, e)
}

func (s *fake) publish(conversation string, l *fakeLog, e *wirepb.Entry) {
	times := 1
	if s.pushes != nil {
		times = s.pushes(e.Seq)
	}
	push := &wirepb.PIMPush{Conversation: conversation, Entries: slices.Repeat([]*wirepb.Entry{e}, times)}
	if s.hold != nil && s.hold(e.Seq) {
		l.held = e
		return
	}
	if l.held != nil && l.held.Sender == e.Sender {
		push.Entries = append(push.Entries, l.held)
		l.held = nil
	}
	for _, u := range l.members {
		switch to := s.users[u]; {
		case to == nil || u == e.Sender:
		case times > 0:
			to.write(push)
		case s.sayBehind:
			to.write(&wirepb.PIMPush{Behind: true})
		}
	}
}

func (s *fake) pull(c *fakeConn, m *wirepb.PIMPullReq) {
	l := s.logs[m.Conversation]
	newest := uint64(len(l.entries))
	to := min(newest, m.From+9) // pages of ten
	for seq := m.From; seq <= to; seq++ {
		c.write(&wirepb.PIMPullResp{
			RequestId: m.RequestId, Conversation: m.Conversation, Entries: l.entries[seq-1 : seq],
			From: seq, To: seq, Newest: newest, Done: seq == to,
		})
	}
	if m.From > to {
		c.write(&wirepb.PIMPullResp{
			RequestId: m.RequestId, Conversation: m.Conversation, From: m.From, To: m.From - 1, Newest: newest, Done: true,
		})
	}
}

// sync lists the conversations with unacknowledged entries, three a page. If a
// conversation has only one such entry, the summary holds the whole of it.
func (s *fake) sync(c *fakeConn, m *wirepb.PIMSyncReq) {
	resp := &wirepb.PIMSyncResp{RequestId: m.RequestId}
	var names []string
	for name, l := range s.logs {
		if name > m.After && slices.Contains(l.members, c.user) && s.acks[c.user+" "+name] < uint64(len(l.entries)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if i == 3 {
			resp.NextAfter = names[2]
			break
		}
		entries := s.logs[name].entries
		sum := &wirepb.Summary{Conversation: name, Newest: uint64(len(entries)), Acked: s.acks[c.user+" "+name]}
		sum.Last = entries[len(entries)-1]
		if sum.Whole = sum.Newest == sum.Acked+1; !sum.Whole {
			sum.Last, sum.LastCut = wire.BriefEntry(sum.Last)
		}
		resp.Conversations = append(resp.Conversations, sum)
	}
	c.write(resp)
}
