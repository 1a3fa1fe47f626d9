package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Receipts is how far others have read a conversation. Of a direct conversation it has Delivered,
// Read and ReadAt; of a group it has Messages, or Readers and Next.
type Receipts struct {
	Delivered pim.Seq    // a device of the other user has everything up to here
	Read      pim.Seq    // the other user has read everything up to here
	ReadAt    pim.Millis // when the user had read so far
	Messages  []Receipt  // one for each message that was asked about, ascending by seq
	Readers   []Reader   // ascending by user
	Next      pim.UserID // empty: this was the last page of Readers
}

// Receipt says how many have read a message, of those it is for: the members who may read it,
// without its sender and without those who give no receipts.
type Receipt struct {
	Seq           pim.Seq
	Read, Members int
}

// Reader is one whom a message is for.
type Reader struct {
	User pim.UserID
	Read bool       // has read the message
	At   pim.Millis // when the user had read as far as now, perhaps beyond the message; 0 if Read is not set
}

// asked returns in as the request of the given ID.
func (in *AskReceipts) asked(id uint64) wire.Message {
	return &wirepb.PIMReceiptReq{
		RequestId: id, Conversation: string(in.Conversation), From: uint64(in.From), To: uint64(in.To),
		Readers: in.Readers, After: string(in.After),
	}
}

// told takes the answer to an AskReceipts.
func (s *asks) told(m *wirepb.PIMReceiptResp) {
	a := s.active[m.RequestId]
	if a == nil {
		return
	}
	if _, ok := a.question.(*AskReceipts); !ok {
		return
	}
	r := Receipts{
		Delivered: pim.Seq(m.Delivered), Read: pim.Seq(m.Read), ReadAt: pim.Millis(m.ReadMs),
		Messages: receiptsOf(m.Receipts), Next: pim.UserID(m.NextAfter),
	}
	for _, reader := range m.Readers {
		r.Readers = append(r.Readers, Reader{User: pim.UserID(reader.User), Read: reader.Read, At: pim.Millis(reader.ReadMs)})
	}
	s.hand(a, Pulled{ID: a.ID, Receipts: r})
}

func receiptsOf(all []*wirepb.Receipt) (receipts []Receipt) {
	for _, m := range all {
		receipts = append(receipts, Receipt{Seq: pim.Seq(m.Seq), Read: int(m.Read), Members: int(m.Members)})
	}
	return receipts
}
