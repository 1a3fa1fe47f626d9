package gateway

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Devices knows the devices of users, and signs them out.
type Devices interface {
	// Devices returns a page of user's devices, see access.Book.
	Devices(ctx context.Context, user pim.UserID, after pim.DeviceID) (page []access.Device, more bool, err error)

	// SignOut refuses the tokens that the device was given so far, and ends its connections, on all nodes.
	// Errors: KindNotFound if user has no such device, KindOverloaded if one was signed out a moment ago,
	// KindTooLarge above access.MaxActs, and the store's.
	SignOut(ctx context.Context, user pim.UserID, device pim.DeviceID) (access.Device, error)
}

// errNoDevices is the refusal of a gateway without Devices.
var errNoDevices = pim.Errorf(pim.KindUnsupported, "this server does not tell of devices")

func (c *conn) handleDevices(m *wirepb.PIMDevicesReq) {
	if err := c.checkDevices(m); err != nil {
		c.refuseTask(c.gw.ctx, m.RequestId, "", err)
		return
	}
	c.queueTask(task{id: m.RequestId, devices: m})
}

// checkDevices returns why m is refused at once.
func (c *conn) checkDevices(m *wirepb.PIMDevicesReq) error {
	switch {
	case c.gw.Devices == nil:
		return errNoDevices
	case len(m.After) > maxNamed || len(m.SignOut) > maxNamed:
		return errLongName(max(len(m.After), len(m.SignOut)))
	case m.SignOut == "":
		return c.gw.shed(limit.History)
	case pim.DeviceID(m.SignOut) == c.device:
		return pim.Errorf(pim.KindInvalid, "a device does not sign itself out: it drops its token")
	}
	return pim.DeviceID(m.SignOut).Validate()
}

func (c *conn) serveDevices(ctx context.Context, req *wirepb.PIMDevicesReq) {
	resp := &wirepb.PIMDevicesResp{RequestId: req.RequestId}
	var devices []access.Device
	var more bool
	var err error
	if req.SignOut == "" {
		devices, more, err = c.gw.Devices.Devices(ctx, c.user, pim.DeviceID(req.After))
	} else {
		devices = make([]access.Device, 1)
		devices[0], err = c.gw.Devices.SignOut(ctx, c.user, pim.DeviceID(req.SignOut))
	}
	if err != nil {
		c.refuseTask(ctx, req.RequestId, "", err)
		return
	}
	for _, d := range devices {
		resp.Devices = append(resp.Devices, &wirepb.Device{Device: string(d.ID), UsedMs: int64(d.Used), SignedOutMs: int64(d.SignedOut)})
	}
	if more {
		resp.NextAfter = string(devices[len(devices)-1].ID)
	}
	c.queuePage(wire.Append(newPage(1+resp.SizeVT()), resp))
}
