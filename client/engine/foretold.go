package engine

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// The sync list says how far the user has read each conversation, and whether the user has marked
// it as unread. Both are settings of the user's own log, which this device may still have to pull.
// Until it has, the list's word counts for what the app is shown and what the user's commands
// know. So does a command of this device that is acknowledged ahead of others in the log. Neither
// is stored.

// foretold are the settings that are known ahead of the own log, by entity. Only Command and At
// are set.
type foretold map[string]pim.Setting

// over returns what s, a setting of entity, is with what was foretold.
func (f foretold) over(entity string, s pim.Setting) pim.Setting {
	told := f[entity]
	if told.At > s.At && (told.Kind != pim.CommandRead || told.Seq > s.Seq) {
		s.Command, s.At = told.Command, told.At
	}
	return s
}

// foretell takes what a Summary says of the settings of its conversation, if the own log has more
// than this device knows of it.
func (e *Engine) foretell(s *wirepb.Summary) {
	known := pim.Seq(0)
	if c := e.conversations.byID[pim.Own(e.meta.User)]; c != nil {
		known = c.known
	}
	if at := newestOf(s.ReadAt); at > known && s.Read != 0 && s.Read <= s.Newest {
		e.foretellOne(at, pim.Command{
			Kind: pim.CommandRead, Subject: s.Conversation, Seq: newestOf(s.Read), Count: min(s.ReadCount, s.Count),
			Named: min(s.ReadNamed, s.Named), All: min(s.ReadAll, s.AllCount),
		})
	}
	if at := newestOf(s.MarkedAt); at > known {
		e.foretellOne(at, pim.Command{Kind: pim.CommandUnread, Subject: s.Conversation, Removed: !s.Marked})
	}
}

func (e *Engine) foretellOne(at pim.Seq, cmd pim.Command) {
	if entity := cmd.Entity(); !e.settings.full(entity) {
		was, _ := e.setting(entity)
		e.foretold[entity] = pim.Setting{Command: cmd, At: at}
		e.showChanged(entity, was)
	}
}

// foretellOwn foretells a command of this device, m, that has left the outbox for the seq at, of
// which the own log lacks entries before it. The app was shown the command already.
func (e *Engine) foretellOwn(at pim.Seq, m *message) {
	cmd := commandOf(&m.Outgoing)
	entity := cmd.Entity()
	now := e.foretold.over(entity, e.settings[entity])
	if !e.settings.full(entity) && now.At < at && (cmd.Kind != pim.CommandRead || now.Seq < cmd.Seq) {
		e.foretold[entity] = pim.Setting{Command: *cmd, At: at}
	}
}

// showChanged shows the setting of entity if what people see of it is not as in was.
func (e *Engine) showChanged(entity string, was pim.Setting) {
	if now, _ := e.setting(entity); now.Seq != was.Seq || now.InForce(0) != was.InForce(0) {
		e.showSetting(entity)
	}
}

// caughtUp forgets what was foretold of the own log up to this device's position, which has moved.
func (e *Engine) caughtUp() {
	c := e.conversations.byID[pim.Own(e.meta.User)]
	if c == nil {
		return
	}
	var entities []string
	for entity, told := range e.foretold {
		if told.At <= c.known {
			entities = append(entities, entity)
		}
	}
	slices.Sort(entities)
	for _, entity := range entities {
		was, _ := e.setting(entity)
		delete(e.foretold, entity)
		if now, _ := e.setting(entity); now.At != was.At { // the log has come to something else
			e.showSetting(entity)
		}
	}
}
