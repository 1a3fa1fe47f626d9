package engine

import "github.com/pim-im/pim"

const maxSettings = 100_000 // entities of a user

// settings are what the user's own log has come to, by entity, without the commands that
// are in the outbox.
type settings map[string]pim.Setting

func newSettings(rows []Setting) settings {
	s := make(settings, len(rows))
	for _, r := range rows {
		s[r.Entity] = r.Setting
	}
	return s
}

// full reports whether there is no room for entity.
func (s settings) full(entity string) bool {
	_, known := s[entity]
	return !known && len(s) >= maxSettings
}

// apply applies the next command about entity, the entry at seq that device has given, and
// reports whether the setting has changed.
func (s settings) apply(entity string, cmd *pim.Command, seq pim.Seq, device pim.DeviceID) bool {
	setting := s[entity]
	changed := setting.Apply(cmd, seq, device)
	if changed {
		s[entity] = setting
	}
	return changed
}

// with returns what setting will come to with the commands of device that are pending.
func with(setting pim.Setting, pending []*message, device pim.DeviceID) pim.Setting {
	for _, m := range pending {
		setting.Apply(m.command, max(setting.At, setting.Deleted, m.command.Known)+1, device)
	}
	return setting
}
