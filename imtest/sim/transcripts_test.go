package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/pim-im/pim/imtest/seeds"
)

// TestWriteTranscripts writes what goes into the engines of random schedules and of blind ones (see blind),
// and what comes out, for the engines of other languages: into the file that PIM_TRANSCRIPTS names, one
// transcript a line. Without the variable it does nothing. PIM_SCHEDULES says of how many schedules, and of
// how many blind ones.
func TestWriteTranscripts(t *testing.T) {
	name := os.Getenv("PIM_TRANSCRIPTS")
	if name == "" {
		t.Skip("PIM_TRANSCRIPTS names no file")
	}
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
	}
	first, n := seeds.Schedules(t, 40, "PIM_SCHEDULES")
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
