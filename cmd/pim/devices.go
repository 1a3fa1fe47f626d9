package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// devicesCmd are the commands about the user's own devices.
type devicesCmd struct {
	List    devicesListCmd    `cmd:"" default:"withargs" help:"Print your devices, and when each was here last."`
	SignOut devicesSignOutCmd `cmd:"" help:"Refuse the tokens that one of your devices was given so far, and end its connection."`
}

type devicesListCmd struct{ changeFlags }

type devicesSignOutCmd struct {
	changeFlags
	Name pim.DeviceID `arg:"" help:"The device."`
}

// deviceJSON is one of the user's devices, for scripts. The names are stable.
type deviceJSON struct {
	Device      pim.DeviceID `json:"device"`
	Own         bool         `json:"own"`
	UsedMS      pim.Millis   `json:"used_ms,omitempty"`
	SignedOutMS pim.Millis   `json:"signed_out_ms,omitempty"`
}

// Run prints the user's devices.
func (c *devicesListCmd) Run(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		for after := pim.DeviceID(""); ; {
			page, err := ses.Devices(ctx, after)
			if err != nil {
				return err
			}
			err = ses.printing(func() (err error) {
				for i := 0; i < len(page.Devices) && err == nil; i++ {
					d := &page.Devices[i]
					err = c.print(s.out, deviceJSON{d.ID, d.ID == ses.device, d.Used, d.SignedOut}, "%s", chat.Printable(deviceText(d, ses.device)))
				}
				return err
			})
			if err != nil {
				return err
			}
			if after = page.Next; after == "" {
				return nil
			}
		}
	})
}

// deviceText returns d for people. own is the device that asks.
func deviceText(d *client.Device, own pim.DeviceID) string {
	text := fmt.Sprintf("%s: here last in the hour of %s", d.ID, d.Used.Time().Local().Format("2006-01-02 15:04"))
	if d.Used == 0 {
		text = fmt.Sprintf("%s: it is not known when it was here last", d.ID)
	}
	if d.ID == own {
		text = fmt.Sprintf("%s: this device", d.ID)
	}
	if d.SignedOut != 0 {
		text += ", signed out at " + d.SignedOut.Time().Local().Format(time.DateTime)
	}
	return text
}

// Run signs a device out.
func (c *devicesSignOutCmd) Run(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		if err := ses.SignOut(ctx, c.Name); err != nil {
			return err
		}
		return c.print(s.out, deviceJSON{Device: c.Name, SignedOutMS: pim.MillisOf(time.Now())}, "%s is signed out", chat.Printable(string(c.Name)))
	})
}
