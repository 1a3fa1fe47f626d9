package inbox

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// SettingVersion returns the version of the cell of s, if no cell of a greater version has
// to be replaced.
func SettingVersion(s *pim.Setting) uint64 {
	if s.Kind == pim.CommandRead {
		return min(uint64(s.Seq), store.MaxVersion)
	}
	return uint64(s.At)
}

// lastVersion begins the value of a cell of store.MaxVersion. An 8-byte At follows, big-endian.
// No later version can replace such a cell, so its value must: of equal versions the greater
// value wins. A value without this beginning is less, because no uvarint of a seq begins so.
var lastVersion = bytes.Repeat([]byte{0xff}, 9)

// SettingCell returns s as the cell of its entity. The version is that of SettingVersion, or
// a greater one.
func SettingCell(s *pim.Setting, version uint64) store.Cell {
	var value []byte
	if version == store.MaxVersion {
		value = binary.BigEndian.AppendUint64(bytes.Clone(lastVersion), uint64(s.At))
	}
	value = binary.AppendUvarint(value, uint64(s.At))
	value = binary.AppendUvarint(value, uint64(s.Deleted))
	value = binary.AppendUvarint(value, uint64(len(s.By)))
	value = wire.AppendCommand(append(value, s.By...), &s.Command)
	return store.Cell{Key: s.Entity(), Version: version, Value: value}
}

// ParseSetting reads what SettingCell wrote. A cell whose kind this version does not
// know (CommandKind.Known) is a later version's: the caller leaves it as it is. An error
// is KindCorrupt.
func ParseSetting(c store.Cell) (pim.Setting, error) {
	var s pim.Setting
	rest := c.Value
	if behind, ok := bytes.CutPrefix(rest, lastVersion); ok {
		rest = behind[min(8, len(behind)):]
	}
	var v [3]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(rest); n <= 0 {
			return s, corruptSetting(c)
		}
		rest = rest[n:]
	}
	if v[2] > uint64(len(rest)) || v[0] > store.MaxVersion {
		return s, corruptSetting(c)
	}
	s.At, s.Deleted, s.By = pim.Seq(v[0]), pim.Seq(v[1]), pim.DeviceID(rest[:v[2]])
	var err error
	if s.Command, err = wire.DecodeCommand(rest[v[2]:]); err != nil || s.Kind.Known() && s.Entity() != c.Key {
		return s, corruptSetting(c)
	}
	return s, nil
}

func corruptSetting(c store.Cell) error {
	return pim.Errorf(pim.KindCorrupt, "setting %q with the value %x", c.Key, c.Value)
}

// current drops the commands that later ones have superseded, so that a new device
// reads what its user has, not how it came about. It reuses entries, and keeps the order
// of the log, in which a device applies them. Three kinds of superseded commands stay:
//
//   - The last deletion of an entity: it decides over changes that were made without
//     knowing of it.
//   - A read that replaced a position: a device may still have that position.
//   - A command that an entry after last has superseded: the setting's cell may be seen
//     before that entry is durable, and the entry may be lost.
func (x *Inbox) current(ctx context.Context, user pim.UserID, entries []Encoded, last pim.Seq) ([]Encoded, error) {
	commands := make([]pim.Command, len(entries)) // of unknown kind: of another version; the device skips it
	settings := make(map[string]pim.Setting)
	var gets []store.Get
	for i, encoded := range entries {
		e, err := wire.ParseEntry(pim.Own(user), encoded.Data)
		if err != nil {
			return nil, err
		}
		if cmd, err := wire.DecodeCommand(e.Payload); err == nil && cmd.Kind.Known() {
			commands[i] = cmd
			entity := cmd.Entity()
			if _, ok := settings[entity]; !ok {
				settings[entity] = pim.Setting{}
				gets = append(gets, store.Get{Partition: Settings(user), Key: entity})
			}
		}
	}
	if err := x.store.Get(ctx, gets); err != nil {
		return nil, err
	}
	for i := range gets {
		if c := gets[i].Cell; c.Version != 0 {
			var err error
			if settings[c.Key], err = ParseSetting(c); err != nil {
				return nil, err
			}
		}
	}
	kept := entries[:0]
	for i, encoded := range entries {
		if cmd := &commands[i]; cmd.Kind.Known() {
			s := settings[cmd.Entity()]
			if encoded.Seq < s.At && s.At <= last && encoded.Seq != s.Deleted && !cmd.Replaces {
				continue
			}
		}
		kept = append(kept, encoded)
	}
	return kept, nil
}
