package process

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

func listens(url string) bool {
	_, addr, _ := strings.Cut(url, "://")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

// A killed server is away until it is started again, and then back at the same addresses.
func TestKilledServerComesBack(t *testing.T) {
	bin, dir := filepath.Join(t.TempDir(), "pim"), filepath.Join(t.TempDir(), "data")
	if err := Build(bin); err != nil {
		t.Fatal(err)
	}
	if _, err := account.CreateDevelopmentKey(filepath.Join(dir, "keys.json")); err != nil {
		t.Fatal(err)
	}
	p, err := Start(t.Context(), []string{bin, "serve"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	web, tcp := p.URL(false), p.URL(true)
	if !listens(web) || !listens(tcp) || p.Kills() != 0 {
		t.Fatalf("%s, %s, %d kills", web, tcp, p.Kills())
	}
	away := false
	if err := p.Kill(t.Context(), func() error { away = !listens(web) && !listens(tcp); return nil }); err != nil {
		t.Fatal(err)
	}
	if !away || !listens(web) || !listens(tcp) || p.URL(false) != web || p.Kills() != 1 {
		t.Errorf("away %t, then %s, %d kills", away, p.URL(false), p.Kills())
	}
	p.Stop()
	if listens(web) {
		t.Error("it goes on after Stop")
	}
}

func TestServerThatEndsAtOnce(t *testing.T) {
	if _, err := Start(t.Context(), nil, t.TempDir()); pim.KindOf(err) != pim.KindInvalid {
		t.Error(err)
	}
	_, err := Start(t.Context(), []string{"go", "no-such-command"}, t.TempDir())
	if pim.KindOf(err) != pim.KindUnavailable || !strings.Contains(err.Error(), "no-such-command") {
		t.Error(err)
	}
}
