package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Devices is a page of the user's own devices.
type Devices struct {
	Devices []Device     // ascending by ID
	Next    pim.DeviceID // empty: this was the last page
}

// Device is one of the user's devices.
type Device struct {
	ID        pim.DeviceID
	Used      pim.Millis // when it was here last, in full hours; 0: not known
	SignedOut pim.Millis // tokens issued before are not good for it; 0: it was never signed out
}

// asked returns in as the request of the given ID.
func (in *AskDevices) asked(id uint64) wire.Message {
	return &wirepb.PIMDevicesReq{RequestId: id, After: string(in.After), SignOut: string(in.SignOut)}
}

// devices takes the answer to an AskDevices.
func (s *asks) devices(m *wirepb.PIMDevicesResp) {
	a := s.active[m.RequestId]
	if a == nil {
		return
	}
	if _, ok := a.question.(*AskDevices); !ok {
		return
	}
	p := Devices{Next: pim.DeviceID(m.NextAfter)}
	for _, d := range m.Devices {
		p.Devices = append(p.Devices, Device{ID: pim.DeviceID(d.Device), Used: pim.Millis(d.UsedMs), SignedOut: pim.Millis(d.SignedOutMs)})
	}
	s.hand(a, Pulled{ID: a.ID, Devices: p})
}
