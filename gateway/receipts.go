package gateway

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func (c *conn) handleReceipts(m *wirepb.PIMReceiptReq) {
	if len(m.Conversation) > maxNamed || len(m.After) > maxNamed {
		c.refuseTask(c.gw.ctx, m.RequestId, "", errLongName(max(len(m.Conversation), len(m.After))))
		return
	}
	if err := c.gw.shed(limit.Receipts); err != nil {
		c.refuseTask(c.gw.ctx, m.RequestId, m.Conversation, err)
		return
	}
	c.queueTask(task{id: m.RequestId, read: &inbox.ReceiptRequest{
		Conversation: pim.ConversationID(m.Conversation), From: pim.Seq(m.From), To: pim.Seq(m.To),
		Readers: m.Readers, After: pim.UserID(m.After),
	}})
}

func (c *conn) serveReceipts(ctx context.Context, id uint64, req *inbox.ReceiptRequest) {
	c.gw.Metrics.receipts.Inc()
	r, err := c.gw.Reader.Receipts(ctx, c.user, *req)
	if err != nil {
		c.refuseTask(ctx, id, string(req.Conversation), err)
		return
	}
	m := &wirepb.PIMReceiptResp{
		RequestId: id, Conversation: string(req.Conversation), Delivered: uint64(r.Delivered),
		Read: uint64(r.Read), ReadMs: int64(r.ReadAt), Receipts: receiptsOf(r.Messages), NextAfter: string(r.Next),
	}
	for _, reader := range r.Readers {
		m.Readers = append(m.Readers, &wirepb.Reader{User: string(reader.User), Read: reader.Read, ReadMs: int64(reader.At)})
	}
	c.queuePage(wire.Append(newPage(1+m.SizeVT()), m))
}

func receiptsOf(messages []inbox.Receipt) []*wirepb.Receipt {
	receipts := make([]*wirepb.Receipt, len(messages))
	for i, m := range messages {
		receipts[i] = &wirepb.Receipt{Seq: uint64(m.Seq), Read: uint32(m.Read), Members: uint32(m.Members)}
	}
	return receipts
}
