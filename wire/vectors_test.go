package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// vector is one case of testdata/vectors.json.
type vector struct {
	Name   string          `json:"name"`
	Frame  string          `json:"frame"`            // the frame's name
	Type   Type            `json:"type"`             // its first byte
	Fields json.RawMessage `json:"fields"`           // body as protobuf JSON
	Hex    string          `json:"hex"`              // frame: type byte and body
	TCP    string          `json:"tcp"`              // over TCP: length and frame
	Client string          `json:"websocket_client"` // as a client's message, masked with 01020304
	Server string          `json:"websocket_server"` // as a server's message
}

type vectorFrame struct {
	name    string
	message Message
}

// vectorFrames returns the frames of a story: alice says hi to bob, bob comes back and
// reads. Frames with the fields that the story does not need follow.
func vectorFrames() []vectorFrame {
	id := []byte{0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x70, 0x01, 0x82, 0x03, 4, 5, 6, 7, 8, 9}
	hi := &wirepb.Entry{
		Seq: 1, Count: 1, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "alice", Device: "phone",
		ClientMessageId: id, LocalMs: 1700000000123, ServerMs: 1700000000150, Payload: []byte("hi"),
	}
	invites := &wirepb.Entry{
		Seq: 1, Kind: wirepb.EntryKind_ENTRY_KIND_CREATE, Sender: "eve", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Members: []string{"eve", "bob"}, Invited: []string{"alice"},
	}
	late := proto.Clone(hi).(*wirepb.Entry)
	late.Seq, late.Anchor, late.Count, late.ServerMs = 3, 1, 3, 1700000000900
	setBack := &wirepb.Entry{
		Seq: 4, Count: 4, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000001123, ServerMs: 1700000001900, AheadMs: 30000, OrderMs: 1700000001123, Payload: []byte("hi"),
	}
	created := &wirepb.Entry{
		Seq: 1, Kind: wirepb.EntryKind_ENTRY_KIND_CREATE, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Members: []string{"alice", "bob"},
	}
	block := &pim.Command{Kind: pim.CommandBlock, Subject: "eve", Known: 6}
	rename := &pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob"), Known: 5}
	read := &pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: 3, Count: 3, Known: 7}
	mute := &pim.Command{Kind: pim.CommandMute, Subject: "g:abc", Until: 1700003600000, Known: 8}
	unmute := &pim.Command{Kind: pim.CommandMute, Subject: "g:abc", Removed: true, Known: 9}
	commanded := &wirepb.Entry{
		Seq: 6, Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Payload: AppendCommand(nil, rename),
	}
	edited := &wirepb.Entry{
		Seq: 5, Count: 4, Kind: wirepb.EntryKind_ENTRY_KIND_EDIT, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Refers: 1, Payload: []byte("hello"),
	}
	noMore := &wirepb.Entry{
		Seq: 7, Count: 4, Kind: wirepb.EntryKind_ENTRY_KIND_REACTION, Sender: "bob", Device: "laptop", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Refers: 1, Reaction: "👍", Removed: true,
	}
	kept30 := &wirepb.Entry{
		Seq: 8, Count: 4, Kind: wirepb.EntryKind_ENTRY_KIND_RETAIN, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, RetainMs: 2592000000,
	}
	erased := &wirepb.Entry{
		Seq: 2, Count: 2, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Erased: true,
	}
	mentioning := &wirepb.Entry{
		Seq: 12, Count: 9, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Payload: []byte("@bob @eve"), AllCount: 1,
		Mentions: []*wirepb.Mention{{User: "bob", Count: 7}, {User: "eve"}},
	}
	toAll := &wirepb.Entry{
		Seq: 13, Count: 10, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "alice", Device: "phone", ClientMessageId: id,
		LocalMs: 1700000000123, ServerMs: 1700000000150, Payload: []byte("@all"), MentionAll: true, AllCount: 2,
	}
	folds := []*wirepb.Fold{
		{
			Target: 1, Upto: 9, Edit: &wirepb.Edit{Seq: 5, By: "alice", TimeMs: 1700000000150, Payload: []byte("hello")},
			Pin:       &wirepb.Mark{Seq: 9, By: "bob", TimeMs: 1700000000170},
			Reactions: []*wirepb.Reaction{{Text: "👍", By: []*wirepb.ReactedBy{{User: "alice", Seq: 6}, {User: "bob", Seq: 8}}}},
		},
		{Target: 2, Upto: 10, Recall: &wirepb.Mark{Seq: 10, By: "alice", TimeMs: 1700000000190}},
	}
	kept := &wirepb.Fold{
		Target: 1, Pin: &wirepb.Mark{Seq: 11, By: "bob", TimeMs: 1700000000190, Removed: true},
		Reactions: []*wirepb.Reaction{{Text: "👍", By: []*wirepb.ReactedBy{{User: "bob", Seq: 7, Removed: true}}}},
	}
	return []vectorFrame{
		{"alice's phone says who it is", &wirepb.Hello{Version: 1, Token: "TOKEN", Device: "phone", AckSerial: 4, Agent: "vectors/1"}},
		{"the server lets it in", &wirepb.Welcome{
			Version: 1, User: "alice", ServerMs: 1700000000000, AckSerial: 4, Connection: "c0ffee",
			Limits: &wirepb.Limits{FrameBytes: 262144, PayloadBytes: 65536, PageEntries: 1000, PageBytes: 1048576, InFlight: 256, GroupMembers: 2000, IdleMs: 300000},
		}},
		{"its storage is older than what it acknowledged", &wirepb.Welcome{Version: 1, User: "alice", StorageBehind: true, AckSerial: 9}},
		{"hi, for bob", &wirepb.PIMSendReq{Conversation: "d:alice:bob", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: []byte("hi"), Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE}},
		{"hi is durable", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "d:alice:bob", Seq: 1, ServerMs: 1700000000150, Count: 1}},
		{"hi was sent again", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "d:alice:bob", Seq: 1, ServerMs: 1700000000150, Count: 1, Duplicate: true}},
		{"a group with bob", &wirepb.PIMSendReq{ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_CREATE, Members: []string{"bob"}}},
		{"hi, pushed to bob", &wirepb.PIMPush{Conversation: "d:alice:bob", Entries: []*wirepb.Entry{hi}}},
		{"a late one, shown before seq 1's successor", &wirepb.PIMPush{Conversation: "d:alice:bob", Entries: []*wirepb.Entry{late}}},
		{"pushes were dropped", &wirepb.PIMPush{Behind: true}},
		{"bob has it", &wirepb.PIMPushAck{Serial: 5, Acks: []*wirepb.Ack{{Conversation: "d:alice:bob", Seq: 1}}}},
		{"what has bob missed", &wirepb.PIMSyncReq{RequestId: 1, Limit: 100}},
		{"this", &wirepb.PIMSyncResp{RequestId: 1, Conversations: []*wirepb.Summary{{Conversation: "d:alice:bob", Newest: 1, Count: 1, Last: hi}}}},
		{"nothing", &wirepb.PIMSyncResp{RequestId: 1}},
		{"the entries, please", &wirepb.PIMPullReq{RequestId: 2, Conversation: "d:alice:bob", From: 1, Limit: 100}},
		{"here", &wirepb.PIMPullResp{RequestId: 2, Conversation: "d:alice:bob", Entries: []*wirepb.Entry{hi}, From: 1, To: 1, Newest: 1, Done: true}},
		{"a group's first entry", &wirepb.PIMPullResp{RequestId: 3, Conversation: "g:abc", Entries: []*wirepb.Entry{created}, From: 1, To: 1, Newest: 1, Done: true}},
		{"what time is it", &wirepb.PIMTimeReq{T1: 1700000000000}},
		{"this", &wirepb.PIMTimeResp{T1: 1700000000000, T2: 1700000000040, T3: 1700000000041}},
		{"are you there", &wirepb.PIMPing{Nonce: 7}},
		{"yes", &wirepb.PIMPong{Nonce: 7, ServerMs: 1700000000200}},
		{"come back later", &wirepb.PIMGoAway{Code: uint32(CodeShutdown), Text: "the server is shutting down", Reconnect: true, WindowMs: 10000}},
		{"not a member", &wirepb.PIMError{Kind: wirepb.ErrorKind_ERROR_KIND_NOT_MEMBER, Text: "user eve is not a member of d:alice:bob", ClientMessageId: id, Conversation: "d:alice:bob"}},
		{"alice blocks eve", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, block), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"she has read what bob wrote", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, read), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"her laptop hears how she calls bob", &wirepb.PIMPush{Conversation: "u:alice", Entries: []*wirepb.Entry{commanded}}},
		{"or pulls it: it is all that the six commands of her log have come to", &wirepb.PIMPullResp{RequestId: 4, Conversation: "u:alice", Entries: []*wirepb.Entry{commanded}, From: 1, To: 6, Newest: 6, Done: true}},
		{"she mutes the group until a certain time", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 2, Payload: AppendCommand(nil, mute), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"she calls bob Bob", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, rename), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"she wants to come back to what bob wrote", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, &pim.Command{Kind: pim.CommandUnread, Subject: "d:alice:bob", Known: 7}), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"the group is no longer mute", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, unmute), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"a phone that an LBS has sent", &wirepb.Hello{Version: 1, Token: "TOKEN", Device: "phone", AckSerial: 4, Lease: "LEASE"}},
		{"a phone that will ping every 3 min 30 s", &wirepb.Hello{Version: 1, Token: "TOKEN", Device: "phone", AckSerial: 4, Agent: "vectors/1", HeartbeatMs: 210000}},
		{"let in, with all that a Welcome can say", &wirepb.Welcome{
			Version: 1, User: "alice", ServerMs: 1700000000000, StorageBehind: true, AckSerial: 9, Connection: "c0ffee", ReconnectWindowMs: 1000,
			Store:  "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
			Limits: &wirepb.Limits{FrameBytes: 262144, PayloadBytes: 65536, PageEntries: 1000, PageBytes: 1048576, InFlight: 256, GroupMembers: 2000, IdleMs: 300000, HeartbeatMs: 600000},
		}},
		{"sent again after 12 s", &wirepb.PIMSendReq{Conversation: "d:alice:bob", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 3, Payload: []byte("hi"), AgeMs: 12034}},
		{"written while the server's clock is set back by 30 s", &wirepb.PIMPush{Conversation: "d:alice:bob", Entries: []*wirepb.Entry{setBack}}},
		{"durable, likewise", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "d:alice:bob", Seq: 4, ServerMs: 1700000001900, Count: 4, AheadMs: 30000, OrderMs: 1700000001123}},
		{"a read command, of which the server has written the count", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "u:alice", Seq: 8, ServerMs: 1700000000150, Payload: AppendCommand(nil, &pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: 3, Count: 3, Replaces: true, Known: 7, Shown: true})}},
		{"a resend that came late", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "d:alice:bob", Seq: 3, Anchor: 1, ServerMs: 1700000000900, Count: 3}},
		{"all conversations, in brief, from the second page on", &wirepb.PIMSyncReq{RequestId: 5, Full: true, After: "d:alice:bob", Limit: 1000, Brief: true}},
		{"a group she has left, its last entry cut, and there are more", &wirepb.PIMSyncResp{RequestId: 5, NextAfter: "g:abc", Conversations: []*wirepb.Summary{
			{Conversation: "g:abc", Newest: 9, Acked: 7, Count: 6, Last: late, LastCut: true, Left: true, Own: 5, OwnCount: 3, Read: 6, ReadCount: 4, Marked: true, ReadAt: 11, MarkedAt: 12, Front: 5},
		}}},
		{"all that is new, whole", &wirepb.PIMSyncResp{RequestId: 7, Conversations: []*wirepb.Summary{{Conversation: "d:alice:bob", Newest: 1, Count: 1, Last: hi, Whole: true}}}},
		{"the newest fifty of a range", &wirepb.PIMPullReq{RequestId: 6, Conversation: "g:abc", From: 2, To: 900, Limit: 50, NewestFirst: true}},
		{"from now on every minute", &wirepb.PIMPing{Nonce: 8, HeartbeatMs: 60000}},
		{"yes, and pushes were dropped", &wirepb.PIMPong{Nonce: 8, ServerMs: 1700000000200, Behind: true}},
		{"go elsewhere", &wirepb.PIMGoAway{Code: uint32(CodeOverloaded), Text: "too many connections", Reconnect: true, WindowMs: 10000, Alternatives: []string{"wss://b.example", "wss://c.example"}}},
		{"that pull, again in 2 s", &wirepb.PIMError{Kind: wirepb.ErrorKind_ERROR_KIND_OVERLOADED, Text: "64 requests of this connection are waiting", Retryable: true, RetryAfterMs: 2000, RequestId: 6}},
		{"hi becomes hello", &wirepb.PIMSendReq{Conversation: "d:alice:bob", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: []byte("hello"), Kind: wirepb.EntryKind_ENTRY_KIND_EDIT, Refers: 1}},
		{"bob takes his thumb back", &wirepb.PIMSendReq{Conversation: "d:alice:bob", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_REACTION, Refers: 1, Reaction: "👍", Removed: true}},
		{"both, pushed", &wirepb.PIMPush{Conversation: "d:alice:bob", Entries: []*wirepb.Entry{edited, noMore}}},
		{"what has become of these two", &wirepb.PIMPullReq{RequestId: 8, Conversation: "d:alice:bob", From: 1, To: 2, Changes: true}},
		{"one was edited, pinned and liked, the other recalled", &wirepb.PIMPullResp{RequestId: 8, Conversation: "d:alice:bob", From: 1, To: 2, Newest: 10, Done: true, Folds: folds}},
		{"a message that was erased", &wirepb.PIMPullResp{RequestId: 9, Conversation: "d:alice:bob", Entries: []*wirepb.Entry{erased}, From: 2, To: 2, Newest: 10, Done: true, Folds: folds[1:]}},
		{"a fold as a device may keep it, with what was taken back; a server sends none", &wirepb.PIMPullResp{RequestId: 10, Conversation: "d:alice:bob", From: 1, To: 1, Newest: 11, Done: true, Folds: []*wirepb.Fold{kept}}},
		{"what she wrote up to seq 9 is to be erased", &wirepb.PIMSendReq{Conversation: "d:alice:bob", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_ERASE, Refers: 9}},
		{"and is, a device hears that has passed over the entry", &wirepb.PIMPullResp{RequestId: 11, Conversation: "d:alice:bob", From: 1, Newest: 12, Erasures: []*wirepb.Erasure{{By: "alice", Upto: 9}}}},
		{"messages are to be kept for 30 days", &wirepb.PIMSendReq{Conversation: "g:abc", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_RETAIN, RetainMs: 2592000000}},
		{"and are", &wirepb.PIMPush{Conversation: "g:abc", Entries: []*wirepb.Entry{kept30}}},
		{"what holds, a device hears that asks for changes", &wirepb.PIMPullResp{RequestId: 12, Conversation: "g:abc", From: 1, To: 1, Newest: 8, Done: true, RetainMs: 2592000000}},
		{"within the notice: until the day after, 60 days hold, and the server keeps nothing for longer than 90", &wirepb.PIMPullResp{RequestId: 12, Conversation: "g:abc", From: 1, To: 1, Newest: 8, Done: true, RetainMs: 2592000000, ServerRetainMs: 7776000000, RetainBeforeMs: 5184000000, RetainFromMs: 1700086400150}},
		{"retention has removed seqs 1 to 40", &wirepb.PIMPullResp{RequestId: 6, Conversation: "g:abc", From: 2, To: 40, Newest: 40, Done: true, Front: 41}},
		{"and seqs 41 to 48, before a device had pulled them; what they would have told of counts", &wirepb.PIMPullResp{RequestId: 7, Conversation: "g:abc", From: 41, To: 48, Newest: 49, Done: true, Front: 49, Standing: &wirepb.Standing{
			Newest: 49, Count: 40, Own: 44, OwnCount: 36, Named: 38, OwnAll: 1, AllCount: 2,
		}}},
		{"who has read messages 7 to 9 of the group", &wirepb.PIMReceiptReq{RequestId: 8, Conversation: "g:abc", From: 7, To: 9}},
		{"seq 8 is no message", &wirepb.PIMReceiptResp{RequestId: 8, Conversation: "g:abc", Receipts: []*wirepb.Receipt{{Seq: 7, Read: 3, Members: 3}, {Seq: 9, Members: 4}}}},
		{"who has read message 7 by name, the second page", &wirepb.PIMReceiptReq{RequestId: 9, Conversation: "g:abc", From: 7, Readers: true, After: "bob"}},
		{"carl has, dave has not", &wirepb.PIMReceiptResp{RequestId: 9, Conversation: "g:abc", NextAfter: "dave", Readers: []*wirepb.Reader{{User: "carl", Read: true, ReadMs: 1700000000900}, {User: "dave"}}}},
		{"bob has got 5 messages and read 4", &wirepb.PIMReceiptResp{RequestId: 10, Conversation: "d:alice:bob", Delivered: 5, Read: 4, ReadMs: 1700000000900}},
		{"who is in the group, the second page", &wirepb.PIMMembersReq{RequestId: 11, Conversation: "g:abc", After: "bob"}},
		{"carl and dave, whose joining was trimmed", &wirepb.PIMMembersResp{RequestId: 11, Conversation: "g:abc", NextAfter: "dave", Owner: "alice", Members: []*wirepb.Member{{User: "carl", Since: 1, SinceMs: 1700000000123}, {User: "dave", Since: 4}}}},
		{"alice asks for her devices, the second page", &wirepb.PIMDevicesReq{RequestId: 12, After: "laptop"}},
		{"a phone, signed out an hour after it was here last", &wirepb.PIMDevicesResp{RequestId: 12, NextAfter: "phone", Devices: []*wirepb.Device{{Device: "phone", UsedMs: 1699999200000, SignedOutMs: 1700002800123}}}},
		{"alice signs her phone out", &wirepb.PIMDevicesReq{RequestId: 13, SignOut: "phone"}},
		{"alice looks at two conversations", &wirepb.PIMLook{Conversations: []string{"d:alice:bob", "g:abc"}}},
		{"and at none any more", &wirepb.PIMLook{}},
		{"bob has read on", &wirepb.PIMReceipt{Conversation: "d:alice:bob", Delivered: 5, Read: 5, ReadMs: 1700000001900}},
		{"somebody of the group has, too", &wirepb.PIMReceipt{Conversation: "g:abc", Receipts: []*wirepb.Receipt{{Seq: 7, Read: 3, Members: 3}, {Seq: 9, Read: 1, Members: 4}}}},
		{"alice looks at bob, too", &wirepb.PIMLook{Conversations: []string{"d:alice:bob"}, Users: []string{"bob"}, RequestId: 11}},
		{"bob is connected", &wirepb.PIMPresence{User: "bob", Online: true}},
		{"bob was connected", &wirepb.PIMPresence{User: "bob", SeenMs: 1700000000900}},
		{"nothing is told of bob", &wirepb.PIMPresence{User: "bob"}},
		{"alice is writing", &wirepb.PIMTyping{Conversation: "d:alice:bob", RequestId: 12}},
		{"bob and carl are writing", &wirepb.PIMTyping{Conversation: "g:abc", Users: []string{"bob", "carl"}}},
		{"alice gives no receipts any more", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, &pim.Command{Kind: pim.CommandNoReceipts, Subject: "alice"}), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"for bob and eve, who is no member", &wirepb.PIMSendReq{Conversation: "g:abc", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: []byte("@bob @eve"), Mentions: []string{"bob", "eve"}}},
		{"it is durable, the third that names bob since his own message, which had the count 4", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "g:abc", Seq: 12, ServerMs: 1700000000150, Count: 9, AllCount: 1, MentionCounts: []uint64{7, 0}}},
		{"the same, pushed to bob", &wirepb.PIMPush{Conversation: "g:abc", Entries: []*wirepb.Entry{mentioning}}},
		{"for all", &wirepb.PIMSendReq{Conversation: "g:abc", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: []byte("@all"), MentionAll: true}},
		{"pushed", &wirepb.PIMPush{Conversation: "g:abc", Entries: []*wirepb.Entry{toAll}}},
		{"what bob's list says: read up to the first of the three names, and one of two messages for all", &wirepb.PIMSyncResp{RequestId: 11, Conversations: []*wirepb.Summary{
			{Conversation: "g:abc", Newest: 13, Acked: 9, Count: 10, Last: toAll, Own: 6, OwnCount: 4, Named: 7, Read: 9, ReadCount: 6, ReadNamed: 5, ReadAt: 11, AllCount: 2, ReadAll: 1},
		}}},
		{"the list of who wrote after the first message for all", &wirepb.PIMSyncResp{RequestId: 12, Conversations: []*wirepb.Summary{
			{Conversation: "g:abc", Newest: 13, Acked: 9, Count: 10, Own: 10, OwnCount: 7, OwnAll: 1, AllCount: 2},
		}}},
		{"a read command, of which the server has written what was mentioned", &wirepb.PIMSendAck{ClientMessageId: id, Conversation: "u:bob", Seq: 12, ServerMs: 1700000000150, Payload: AppendCommand(nil, &pim.Command{Kind: pim.CommandRead, Subject: "g:abc", Seq: 13, Count: 10, Named: 7, All: 2})}},
		{"all conversations, the newest three first", &wirepb.PIMSyncReq{RequestId: 13, Full: true, Limit: 1000, Brief: true, Recent: 3}},
		{"the newest, of which there is one; the page follows", &wirepb.PIMSyncResp{RequestId: 13, Recent: true, Conversations: []*wirepb.Summary{{Conversation: "d:alice:bob", Newest: 1, Count: 1, Last: hi, Whole: true}}}},
		{"and which conversations have been trimmed", &wirepb.PIMSyncReq{RequestId: 14, Limit: 1000, Brief: true, Fronts: true}},
		{"nothing is new, and of two conversations the beginning is gone", &wirepb.PIMSyncResp{RequestId: 14, Fronts: []*wirepb.Front{{Conversation: "d:alice:bob", Front: 2}, {Conversation: "g:abc", Front: 300}}}},
		{"the device has dropped it, and has a message", &wirepb.PIMPushAck{Serial: 6, Acks: []*wirepb.Ack{{Conversation: "g:abc", Seq: 310}}, Fronts: []*wirepb.Front{{Conversation: "d:alice:bob", Front: 2}, {Conversation: "g:abc", Front: 300}}}},
		{"eve's group, which alice is asked to join", &wirepb.PIMSyncResp{RequestId: 15, Conversations: []*wirepb.Summary{
			{Conversation: "g:eve", Newest: 1, Last: invites, Left: true, Whole: true, Own: 1, Invited: true},
		}}},
		{"she does not want to", &wirepb.PIMSendReq{Conversation: "g:eve", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Kind: wirepb.EntryKind_ENTRY_KIND_LEAVE, Members: []string{"alice"}}},
		{"nor does she want anybody to add her from now on", &wirepb.PIMSendReq{Conversation: "u:alice", ClientMessageId: id, LocalMs: 1700000000123, Attempt: 1, Payload: AppendCommand(nil, &pim.Command{Kind: pim.CommandAdders, Subject: "alice", Adders: pim.AddersNone}), Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND}},
		{"eve is blocked", &wirepb.PIMError{Kind: wirepb.ErrorKind_ERROR_KIND_FORBIDDEN, Text: "user eve is blocked", ClientMessageId: id, Conversation: "d:alice:eve"}},
	}
}

func makeVectors(t *testing.T) []vector {
	var all []vector
	for _, v := range vectorFrames() {
		frame := Append(nil, v.message)
		fields, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(v.message.(proto.Message))
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer // protojson's spaces differ from build to build
		if err := json.Compact(&compact, fields); err != nil {
			t.Fatal(err)
		}
		typ := TypeOf(v.message)
		all = append(all, vector{
			v.name, typ.String(), typ, compact.Bytes(), hex.EncodeToString(frame), hex.EncodeToString(AppendTCP(nil, frame)),
			hex.EncodeToString(webSocket(frame, []byte{1, 2, 3, 4})), hex.EncodeToString(webSocket(frame, nil)),
		})
	}
	return all
}

// webSocket returns frame as one binary message, RFC 6455 section 5.2.
func webSocket(frame, mask []byte) []byte {
	b := []byte{0x82}
	masked := byte(0)
	if mask != nil {
		masked = 0x80
	}
	if len(frame) < 126 {
		b = append(b, masked|byte(len(frame)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(len(frame)))
	}
	b = append(b, mask...)
	for i, c := range frame {
		if mask != nil {
			c ^= mask[i%4]
		}
		b = append(b, c)
	}
	return b
}

// testdata/vectors.json is for the SDKs of all languages. PIM_UPDATE=1 writes it.
func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	made := makeVectors(t)
	want, err := json.MarshalIndent(made, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("PIM_UPDATE") != "" {
		if err := os.WriteFile(path, append(want, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []vector
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(made) {
		t.Fatalf("%d vectors in the file, %d are made: PIM_UPDATE=1 writes it anew", len(got), len(made))
	}
	covered := map[Type]bool{}
	for i, v := range got {
		covered[v.Type] = true
		if v.Hex != made[i].Hex || v.TCP != made[i].TCP || v.Client != made[i].Client || v.Server != made[i].Server {
			t.Errorf("%s: PIM_UPDATE=1 writes it anew", v.Name)
		}
		frame, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		typ, m, err := Decode(frame)
		if err != nil || typ != v.Type || typ.String() != v.Frame {
			t.Fatalf("%s: %s, %v", v.Name, typ, err)
		}
		want := newMessage(typ).(proto.Message)
		if err := protojson.Unmarshal(v.Fields, want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m.(proto.Message), want) {
			t.Errorf("%s: decodes to %v, want %v", v.Name, m, want)
		}
		conformance.Ran(t, "wire/"+path, v.Name)
	}
	for _, typ := range types {
		if !covered[typ] {
			t.Errorf("no vector of %s", typ)
		}
	}
}

// Every field of every frame is in some vector.
func TestVectorsHaveEveryField(t *testing.T) {
	has := map[protoreflect.FullName]bool{}
	var note func(m protoreflect.Message)
	note = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			has[f.FullName()] = true
			switch {
			case f.Kind() != protoreflect.MessageKind:
			case f.IsList():
				for i := range v.List().Len() {
					note(v.List().Get(i).Message())
				}
			default:
				note(v.Message())
			}
			return true
		})
	}
	for _, v := range vectorFrames() {
		note(v.message.(proto.Message).ProtoReflect())
		var command []byte
		switch m := v.message.(type) {
		case *wirepb.PIMSendReq:
			if m.Kind == wirepb.EntryKind_ENTRY_KIND_COMMAND {
				command = m.Payload
			}
		case *wirepb.PIMSendAck:
			command = m.Payload
		}
		c := new(wirepb.Command)
		if err := c.UnmarshalVT(command); err != nil {
			t.Fatal(err)
		}
		note(c.ProtoReflect())
	}
	messages := wirepb.File_pim_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			if name := fields.Get(j).FullName(); !has[name] {
				t.Errorf("no vector has %s", name)
			}
		}
	}
}

// reading is one case of testdata/reading.json: bytes that no encoder of v1 makes, and
// what a reader has to make of them.
type reading struct {
	Name   string          `json:"name"`
	TCP    string          `json:"tcp"`              // what comes over TCP
	Frame  string          `json:"frame,omitempty"`  // read as this
	Fields json.RawMessage `json:"fields,omitempty"` // with this body, as protobuf JSON
	Skip   bool            `json:"skip,omitempty"`   // passed over
	Close  Code            `json:"close,omitempty"`  // the connection ends with this code
	Wait   bool            `json:"wait,omitempty"`   // more bytes must come
}

// testdata/reading.json is for the SDKs of all languages, written by hand.
func TestReading(t *testing.T) {
	const path = "testdata/reading.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cases []reading
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(c.TCP, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			frame, _, need, err := CutTCP(b, pim.MaxFrame)
			var typ Type
			var m Message
			if err == nil && need == 0 {
				typ, m, err = Decode(frame)
			}
			var code Code
			switch {
			case pim.KindOf(err) == pim.KindTooLarge:
				code = CodeTooLarge
			case err != nil:
				code = CodeProtocol
			}
			if code != c.Close || (need > 0) != c.Wait || (code == 0 && need == 0 && m == nil) != c.Skip {
				t.Fatalf("read as %s %v, needs %d, %v", typ, m, need, err)
			}
			conformance.Ran(t, "wire/"+path, c.Name)
			if c.Frame == "" {
				return
			}
			if typ.String() != c.Frame {
				t.Fatalf("read as %s", typ)
			}
			want := newMessage(typ).(proto.Message)
			if err := protojson.Unmarshal(c.Fields, want); err != nil {
				t.Fatal(err)
			}
			got := m.(proto.Message)
			got.ProtoReflect().SetUnknown(nil)
			if !proto.Equal(got, want) {
				t.Errorf("read as %v, want %v", got, want)
			}
		})
	}
}

// The worked exchange in docs/protocol.md shows frames of the vectors.
func TestDocumentShowsTheVectors(t *testing.T) {
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, exchange, found := strings.Cut(string(doc), "A worked exchange")
	if !found {
		t.Fatal("docs/protocol.md has no worked exchange")
	}
	flat := strings.NewReplacer(" ", "", "\n", "").Replace(exchange)
	shown := 0
	for _, v := range makeVectors(t) {
		if strings.Contains(flat, v.TCP) {
			shown++
		}
	}
	if shown < 6 {
		t.Errorf("%d of the vectors' frames are shown", shown)
	}
}
