package server

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
)

// devices tells users of their devices, and signs these out.
type devices struct{ server *Server }

// signOutEvery is how often a user may sign a device out, on all nodes together: each time all gateways are told.
const signOutEvery = time.Second

// Devices implements gateway.Devices.
func (d devices) Devices(ctx context.Context, user pim.UserID, after pim.DeviceID) ([]access.Device, bool, error) {
	return d.server.book.Devices(ctx, user, after)
}

// SignOut implements gateway.Devices.
func (d devices) SignOut(ctx context.Context, user pim.UserID, device pim.DeviceID) (access.Device, error) {
	s := d.server
	has, err := s.book.HasDevice(ctx, user, device)
	if err != nil {
		return access.Device{}, err
	}
	if !has {
		return access.Device{}, pim.Errorf(pim.KindNotFound, "the user has no device %q", string(device))
	}
	last, err := s.book.Last(ctx, user)
	if err != nil {
		return access.Device{}, err
	}
	if ago := time.Duration(pim.MillisOf(s.clock.Relied())-last) * time.Millisecond; ago < signOutEvery {
		return access.Device{}, &pim.Error{Kind: pim.KindOverloaded, Text: "a device was signed out a moment ago", RetryAfter: signOutEvery - max(ago, 0)}
	}
	done, err := s.revoke(ctx, Revoke{User: user, Device: device})
	if err != nil {
		return access.Device{}, err
	}
	s.log.Debug("a user has signed a device out", "user", string(user), "device", string(device), "ended", done.Ended)
	return access.Device{ID: device, SignedOut: done.At}, nil
}
