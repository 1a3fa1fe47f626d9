package wire

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// AppendCommand appends the encoding of c, an entry's payload, to dst.
func AppendCommand(dst []byte, c *pim.Command) []byte {
	m := wirepb.Command{
		Kind: wirepb.CommandKind(c.Kind), Subject: c.Subject, Removed: c.Removed, Value: c.Value,
		UntilMs: int64(c.Until), Seq: uint64(c.Seq), Count: c.Count, Known: uint64(c.Known), Replaces: c.Replaces, Shown: c.Shown,
		Named: c.Named, AllCount: c.All, Adders: wirepb.Adders(c.Adders),
	}
	at := len(dst)
	dst = append(dst, make([]byte, m.SizeVT())...)
	if _, err := m.MarshalToSizedBufferVT(dst[at:]); err != nil {
		panic("wire: marshal command: " + err.Error()) // the buffer has its size: cannot happen
	}
	return append(dst, c.Unknown...)
}

// ParseCommand reads a command that a client sent, and validates it. Its errors are
// those of DecodeCommand and of pim.Command.Validate. The result shares nothing with
// payload.
func ParseCommand(payload []byte) (pim.Command, error) {
	c, err := DecodeCommand(payload)
	if err != nil {
		return c, err
	}
	return c, c.Validate()
}

// DecodeCommand reads what AppendCommand wrote, and does not validate it. It is for
// stored commands: it keeps all of a later version's command, which Validate may
// refuse. An error is KindInvalid. The result shares nothing with payload.
func DecodeCommand(payload []byte) (pim.Command, error) {
	var m wirepb.Command
	if err := m.UnmarshalVT(payload); err != nil {
		return pim.Command{}, pim.Errorf(pim.KindInvalid, "command: %w", err)
	}
	c := pim.Command{
		Kind: pim.CommandKind(m.Kind), Subject: m.Subject, Removed: m.Removed, Value: m.Value,
		Until: pim.Millis(m.UntilMs), Seq: pim.Seq(m.Seq), Count: m.Count, Known: pim.Seq(m.Known), Replaces: m.Replaces, Shown: m.Shown,
		Named: m.Named, All: m.AllCount, Adders: pim.Adders(m.Adders),
		Unknown: m.ProtoReflect().GetUnknown(),
	}
	if len(c.Value) == 0 {
		c.Value = nil // an empty value can be encoded in two ways
	}
	return c, nil
}
