package soak

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/imtest/seeds"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// serve builds pim and returns the command that serves.
func serve(t *testing.T) []string {
	bin := filepath.Join(t.TempDir(), "pim")
	if err := process.Build(bin); err != nil {
		t.Fatal(err)
	}
	return []string{bin, "serve", "--drain-window", "0s", "--no-consent", "--user-logins", "0", "--device-logins", "0"}
}

// setting returns a setting from the environment, or def.
func setting[T any](t *testing.T, name string, def T, parse func(string) (T, error)) T {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	x, err := parse(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return x
}

// A server under load that is killed again and again loses, doubles and misorders
// nothing. PIM_SOAK_LOAD sets how long (20s), PIM_SOAK_KILL how often it is killed (a
// sixth of that, at most 20s), PIM_SOAK_RATE the messages a second (300).
func TestSoak(t *testing.T) {
	duration := setting(t, "PIM_SOAK_LOAD", 20*time.Second, time.ParseDuration)
	cfg := Config{
		ServerCommand: serve(t), Dir: filepath.Join(t.TempDir(), "data"), Duration: duration, MinFaults: 2,
		FaultEvery: setting(t, "PIM_SOAK_KILL", min(duration/6, 20*time.Second), time.ParseDuration),
		Rate:       setting(t, "PIM_SOAK_RATE", 300, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }),
		Seed:       seeds.First(t),
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages and %d deliveries in %.0f s, %d kills: lost %d, doubled %d, misordered %d",
		rep.Messages, rep.Deliveries, rep.Seconds, rep.Faults, rep.Lost, rep.Doubled, rep.Misordered)
	for _, f := range rep.Findings {
		t.Error(f)
	}
	if err := rep.Err(); err != nil || rep.Messages == 0 || rep.Deliveries <= rep.Messages || rep.Faults < 2 {
		t.Errorf("%+v: %v", rep, err)
	}
}

// A server that comes back with an older state of its disk has lost messages that it had
// acknowledged: the soak says so.
func TestForgetfulServerIsCaught(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old")
	cfg := Config{
		ServerCommand: serve(t), Dir: filepath.Join(t.TempDir(), "data"), Users: 4, Rate: 200,
		Duration: 3 * time.Second, FaultEvery: time.Second, MinFaults: 2, Patience: 2 * time.Second, Seed: 1,
		WhileDead: func(dir string, kill int) error {
			switch kill {
			case 1:
				return copyDir(old, dir)
			case 2:
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
				return copyDir(dir, old)
			}
			return nil
		},
	}
	rep, err := Run(t.Context(), cfg)
	if err == nil && rep.Err() == nil {
		t.Errorf("not noticed: %+v", rep)
	}
	t.Log(err, rep.Err(), rep.Findings)
}

func copyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}
