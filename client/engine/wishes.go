package engine

import (
	"bytes"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// commandPage is how many commands that are kept aside are read at once.
const commandPage = 1000

// wishes has, for each entity of the user's own log, the last of the commands that the server
// has lost and the store keeps aside. That command is sent again, unless a later one has
// replaced it since. All maps have entities as keys.
type wishes struct {
	skip int // how many of the commands kept aside were read so far
	last map[string]wish
	// locals are the local times of the newest commands that were obeyed since the own
	// log was taken back; nil: they are not noted.
	locals  map[string]pim.Millis
	cleared map[string]bool // the settings that forget dropped
	// expected are the entities of commands that were acknowledged, and whose entries have not come.
	// The app is shown them as they will be.
	expected map[string]bool
	// reads are the last read positions that are still there, of the conversations that
	// were taken back; nil: an earlier process took them back, so they are not known.
	reads map[string]pim.Command
}

// wish is the last command that is kept aside of one entity.
type wish struct {
	setting pim.Setting
	entry   pim.Entry
}

// begin notes that the own log was taken back.
func (ws *wishes) begin() {
	ws.skip, ws.last, ws.locals = 0, make(map[string]wish), make(map[string]pim.Millis)
}

// reset notes that nothing is kept aside, and that no conversation is taken back.
func (ws *wishes) reset() {
	*ws = wishes{reads: make(map[string]pim.Command), expected: ws.expected}
}

// forget drops all settings, because the own log will be obeyed anew.
func (ws *wishes) forget(s settings) {
	if ws.cleared == nil {
		ws.cleared = make(map[string]bool, len(s))
	}
	for entity := range s {
		ws.cleared[entity] = true
	}
	clear(s)
}

// expect notes that a command of entity was acknowledged before its entry has come.
func (ws *wishes) expect(entity string) {
	if ws.expected == nil {
		ws.expected = make(map[string]bool)
	}
	ws.expected[entity] = true
}

// obeyed notes the local time of a command that was obeyed for entity.
func (ws *wishes) obeyed(entity string, local pim.Millis) {
	delete(ws.expected, entity)
	if ws.locals != nil {
		ws.locals[entity] = max(ws.locals[entity], local)
	}
}

// cut notes that a conversation was taken back, to the position that read has.
func (ws *wishes) cut(read pim.Command) {
	entity := read.Entity()
	if was, ok := ws.reads[entity]; ws.reads != nil && (!ok || read.Seq < was.Seq) {
		ws.reads[entity] = read
	}
}

// page takes a page of commands that are kept aside, and reports whether it is the last.
func (ws *wishes) page(entries []pim.Entry) (last bool) {
	for _, entry := range entries {
		cmd, err := wire.ParseCommand(entry.Payload)
		if err != nil || entry.Kind != pim.EntryCommand {
			continue
		}
		w := ws.last[cmd.Entity()]
		if w.setting.Apply(&cmd, entry.Seq, entry.Device) {
			w.entry = entry
			ws.last[cmd.Entity()] = w
		}
	}
	ws.skip += len(entries)
	return len(entries) < commandPage
}

// entities returns those with a wish, in order.
func (ws *wishes) entities() []string { return slices.Sorted(maps.Keys(ws.last)) }

// end ends a reading: the next page is the first again. It returns the entities whose
// settings forget has dropped, in order.
func (ws *wishes) end() []string {
	cleared := ws.cleared
	ws.skip, ws.cleared = 0, nil
	return slices.Sorted(maps.Keys(cleared))
}

// again returns the entry that is to be sent again for entity; ok is false if there is
// none. now is the present setting, known says whether there is one; the own log is known
// up to the seq log, and the conversation that a read position is about up to the seq read.
func (ws *wishes) again(entity string, now pim.Setting, known bool, log, read pim.Seq) (entry pim.Entry, ok bool) {
	w := ws.last[entity]
	cmd := &w.setting.Command
	switch {
	case cmd.Kind == pim.CommandRead:
		ok = ws.stillRead(entity, cmd, read) && cmd.Seq > now.Seq
	case !known:
		ok = true
	case now.Removed == cmd.Removed && now.Until == cmd.Until && bytes.Equal(now.Value, cmd.Value) && bytes.Equal(now.Unknown, cmd.Unknown):
	default:
		ok = ws.locals[entity] < w.entry.Local
	}
	if ok {
		cmd.Known = log
		w.entry.Payload = wire.AppendCommand(nil, cmd)
	}
	return w.entry, ok
}

// stillRead cuts a read position to the part of its conversation that is still there,
// and reports whether there is any. If an earlier process has taken the conversation back, nobody
// knows that part, and the position is given up.
func (ws *wishes) stillRead(entity string, cmd *pim.Command, known pim.Seq) bool {
	if ws.reads == nil {
		return false
	}
	if cut, ok := ws.reads[entity]; ok && cut.Seq < cmd.Seq {
		cmd.Seq, cmd.Count, cmd.Named, cmd.All = cut.Seq, cut.Count, 0, 0
	}
	return cmd.Seq > 0 && cmd.Seq <= known
}

// giveUpExpected shows the settings of commands whose entries have not come, once this device has
// all of the own log: the server has lost them.
func (e *Engine) giveUpExpected() {
	c := e.conversations.byID[pim.Own(e.meta.User)]
	if len(e.wishes.expected) == 0 || e.meta.Doubt || c != nil && (c.doubt != nil || c.behind()) {
		return
	}
	entities := slices.Sorted(maps.Keys(e.wishes.expected))
	clear(e.wishes.expected)
	for _, entity := range entities {
		e.showSetting(entity)
	}
}
