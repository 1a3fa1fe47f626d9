package sim

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pim-im/pim/imtest/seeds"
)

// TestWriteTranscripts writes what goes into the engines of random schedules and of blind ones (see blind),
// and what comes out, for the engines of other languages: into the file that PIM_TRANSCRIPTS names, one
// transcript a line. PIM_SCHEDULES says of how many schedules, and of how many blind ones. The Go engine replays
// them, too: what is written must be enough to do so.
func TestWriteTranscripts(t *testing.T) {
	name := cmp.Or(os.Getenv("PIM_TRANSCRIPTS"), filepath.Join(t.TempDir(), "transcripts"))
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(file)
	encoder := json.NewEncoder(out)
	write := func(name string, seed uint64, r *recorder) {
		r.Name = fmt.Sprintf("%s, PIM_SEED=%d", name, seed)
		if err := encoder.Encode(r.Transcript); err != nil {
			t.Fatal(err)
		}
		written, err := json.Marshal(r.Transcript)
		if err != nil {
			t.Fatal(err)
		}
		var again Transcript
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatal(err)
		}
		if err := Replay(&again); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	first, n := seeds.Schedules(t, seeds.Many(40), "PIM_SCHEDULES")
	for seed := first; seed < first+n; seed++ {
		w := Random(seed, func(d *Device) { d.recorder = new(recorder) })
		w.Heal(healTime)
		for _, d := range w.devices {
			write("random", seed, d.recorder)
		}
		b := newBlind(seed)
		b.recorder = new(recorder)
		b.play()
		write("blind", seed, b.recorder)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
