package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/pim-im/pim/client/engine"
)

// Transcript is what went into the engine of one device and came out of it, in a story.
// An SDK that is fed the inputs must give the outputs.
type Transcript struct {
	Name      string    `json:"name"`
	Story     string    `json:"story"`
	Device    string    `json:"device"`
	Processes []Process `json:"processes"` // one after the other, on the same store
}

// Process is the life of one engine.
type Process struct {
	Config   any       `json:"config"`
	Snapshot any       `json:"snapshot,omitempty"` // what the engine starts from
	Random   []float64 `json:"random,omitempty"`   // what Config.Random returned, in order
	Steps    []Turn    `json:"steps"`
}

// Turn is one step and what Take returned after it.
type Turn struct {
	At    float64        `json:"at"`   // ms on the monotonic clock
	Wall  float64        `json:"wall"` // the device's wall clock, ms since 1970
	Input map[string]any `json:"in"`   // one member: the name of the input
	Out   any            `json:"out,omitempty"`
	Wake  float64        `json:"wake,omitempty"` // when the engine wants a Tick at the latest, as At; 0: never
	Error string         `json:"error,omitempty"`
}

// recorder writes the transcript of a device; a nil recorder writes nothing.
type recorder struct{ Transcript }

func (r *recorder) begin(d *Device) {
	if r == nil {
		return
	}
	r.Device = fmt.Sprintf("%s's %s", d.User, d.ID)
	snapshot := d.disk.snapshot()
	r.Processes = append(r.Processes, Process{
		Config: encode(reflect.ValueOf(d.config)), Snapshot: encode(reflect.ValueOf(snapshot)),
	})
}

// random notes what f returns, rounded so that transcripts are short.
func (r *recorder) random(f func() float64) func() float64 {
	if r == nil {
		return f
	}
	p := len(r.Processes) - 1
	return func() float64 {
		x := math.Floor(f()*1000) / 1000
		r.Processes[p].Random = append(r.Processes[p].Random, x)
		return x
	}
}

func (r *recorder) step(e *engine.Engine, now engine.Time, in engine.Input, out *engine.Output, err error) {
	if r == nil {
		return
	}
	p := &r.Processes[len(r.Processes)-1]
	p.Steps = append(p.Steps, turnOf(e, now, in, out, err))
}

func turnOf(e *engine.Engine, now engine.Time, in engine.Input, out *engine.Output, err error) Turn {
	t := Turn{
		At: float64(now.Mono) / 1e6, Wall: float64(now.Wall), Out: encodeOutput(out),
		Input: map[string]any{snake(reflect.TypeOf(in).Name()): encode(reflect.ValueOf(in))},
	}
	if at, ok := e.Deadline(); ok {
		t.Wake = float64(at) / 1e6
	}
	if err != nil {
		t.Error = err.Error()
	}
	return t
}

// encodeOutput gives events the names of their types.
func encodeOutput(out *engine.Output) any {
	fields, _ := encode(reflect.ValueOf(*out)).(map[string]any)
	var events []any
	for _, ev := range out.Events {
		events = append(events, map[string]any{snake(reflect.TypeOf(ev).Name()): encode(reflect.ValueOf(ev))})
	}
	if events != nil {
		fields["events"] = events
	}
	var frames []any
	for _, m := range out.Frames {
		frames = append(frames, encodeMessage(m))
	}
	if frames != nil {
		fields["frames"] = frames
	}
	if fields == nil {
		return nil
	}
	return fields
}

// inputs are the types of an engine's inputs, by their names in transcripts.
var inputs = func() map[string]reflect.Type {
	types := make(map[string]reflect.Type)
	for _, in := range []engine.Input{
		engine.Start{},
		engine.Dialled{},
		engine.NoToken{},
		engine.Lost{},
		engine.Frame{},
		engine.Arriving{},
		engine.Pause{},
		engine.FromStore{},
		engine.NetworkChanged{},
		engine.Reconnect{},
		engine.Online{},
		engine.Foreground{},
		engine.Tick{},
		engine.Close{},
		engine.Send{},
		engine.Do{},
		engine.Resend{},
		engine.Discard{},
		engine.Confirm{},
		engine.Follow{},
		engine.Open{},
		engine.Reading{},
		engine.Fill{},
		engine.Ask{},
		engine.AskReceipts{},
		engine.AskMembers{},
		engine.Look{},
		engine.Typing{},
		engine.Unask{},
	} {
		types[snake(reflect.TypeOf(in).Name())] = reflect.TypeOf(in)
	}
	return types
}()

// Replay feeds a transcript to engines and returns the first difference, nil if there
// is none. A test of any SDK does the same.
func Replay(t *Transcript) error {
	for i, p := range t.Processes {
		if err := p.replay(); err != nil {
			return fmt.Errorf("%s, %s, process %d: %w", t.Name, t.Device, i+1, err)
		}
	}
	return nil
}

func (p *Process) replay() error {
	var config engine.Config
	if err := decode(p.Config, reflect.ValueOf(&config).Elem()); err != nil {
		return err
	}
	var snapshot engine.Snapshot
	if err := decode(p.Snapshot, reflect.ValueOf(&snapshot).Elem()); err != nil {
		return err
	}
	random, missing := p.Random, 0
	config.Random = func() float64 {
		if len(random) == 0 {
			missing++
			return 0
		}
		x := random[0]
		random = random[1:]
		return x
	}
	e := engine.New(config, snapshot)
	for n, want := range p.Steps {
		got, err := want.replay(e)
		if err == nil && missing > 0 {
			err = errors.New("it asks for more random numbers than there are")
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", n+1, err)
		}
		if g, w := plain(got), plain(want); g != w {
			return fmt.Errorf("step %d:\n got %s\nwant %s", n+1, g, w)
		}
	}
	if len(random) > 0 {
		return fmt.Errorf("%d random numbers were not asked for", len(random))
	}
	return nil
}

func (t *Turn) replay(e *engine.Engine) (Turn, error) {
	for name, x := range t.Input {
		kind, ok := inputs[name]
		if !ok {
			return Turn{}, fmt.Errorf("no input is called %s", name)
		}
		v := reflect.New(kind).Elem()
		if err := decode(x, v); err != nil {
			return Turn{}, err
		}
		var now engine.Time
		if err := decode(t.At, reflect.ValueOf(&now.Mono).Elem()); err != nil {
			return Turn{}, err
		}
		if err := decode(t.Wall, reflect.ValueOf(&now.Wall).Elem()); err != nil {
			return Turn{}, err
		}
		in := v.Interface().(engine.Input)
		err := e.Step(now, in)
		out := e.Take()
		return turnOf(e, now, in, &out, err), nil
	}
	return Turn{}, fmt.Errorf("a step without an input")
}

// plain returns x as JSON in one form: equal things give equal texts.
func plain(x any) string {
	data, err := json.Marshal(x)
	if err != nil {
		return err.Error()
	}
	var y any
	if err := json.Unmarshal(data, &y); err != nil {
		return err.Error()
	}
	data, _ = json.Marshal(y) // y came from JSON
	return string(data)
}
