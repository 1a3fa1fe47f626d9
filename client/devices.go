package client

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// The user's own devices. See package engine.
type (
	// Devices is a page of the user's devices.
	Devices = engine.Devices
	// Device is one of the user's devices.
	Device = engine.Device
)

// Devices asks the server for the user's own devices: a page of those behind after, ascending by ID; empty for
// the first page. It waits for a connection as long as ctx allows. A server of an earlier version
// does not answer: bound ctx. The caller owns what it returns.
func (c *Client) Devices(ctx context.Context, after pim.DeviceID) (Devices, error) {
	p, err := c.ask(ctx, func(id uint64) engine.Input { return engine.AskDevices{ID: id, After: after} })
	return p.Devices, err
}

// SignOut signs another of the user's devices out: when it returns nil, no token that was issued until
// now lets that device in, and its connection is ended, on whatever node it is. The application decides whether the device
// gets a new token. It waits for a connection as long as ctx allows, and may be repeated. Errors: KindInvalid for
// this client's own device; KindNotFound if the user has no such device; KindTooLarge if an operator must revoke the
// user, since more than a thousand devices are signed out.
func (c *Client) SignOut(ctx context.Context, device pim.DeviceID) error {
	if err := device.Validate(); err != nil {
		return err
	}
	_, err := c.ask(ctx, func(id uint64) engine.Input { return engine.AskDevices{ID: id, SignOut: device} })
	return err
}
