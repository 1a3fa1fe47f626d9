package gateway

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func (c *conn) handleMembers(m *wirepb.PIMMembersReq) {
	if len(m.Conversation) > maxNamed || len(m.After) > maxNamed {
		c.refuseTask(c.gw.ctx, m.RequestId, "", errLongName(max(len(m.Conversation), len(m.After))))
		return
	}
	if err := c.gw.shed(limit.History); err != nil {
		c.refuseTask(c.gw.ctx, m.RequestId, m.Conversation, err)
		return
	}
	c.queueTask(task{id: m.RequestId, who: &inbox.MembersRequest{
		Conversation: pim.ConversationID(m.Conversation), After: pim.UserID(m.After),
	}})
}

func (c *conn) serveMembers(ctx context.Context, id uint64, req *inbox.MembersRequest) {
	c.gw.Metrics.members.Inc()
	p, err := c.gw.Reader.Members(ctx, c.user, *req)
	if err != nil {
		c.refuseTask(ctx, id, string(req.Conversation), err)
		return
	}
	m := &wirepb.PIMMembersResp{
		RequestId: id, Conversation: string(req.Conversation), Owner: string(p.Owner), NextAfter: string(p.Next),
		Members: make([]*wirepb.Member, len(p.Members)),
	}
	for i, one := range p.Members {
		m.Members[i] = &wirepb.Member{User: string(one.User), Since: uint64(one.Since), SinceMs: int64(one.At)}
	}
	c.queuePage(wire.Append(newPage(1+m.SizeVT()), m))
}
