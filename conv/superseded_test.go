package conv_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store/pebble"
)

// A device reads its own log while a command that supersedes an earlier one is being written.
// The device gets the earlier command: if the power fails, that one stays in force.
func TestOnlyWhatIsDurableSupersedes(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var slow atomic.Bool
	held, loose := make(chan struct{}, 10), make(chan struct{})
	st, err := pebble.Open("data", pebble.Options{Logger: quiet(), FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slow.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.HasSuffix(op.Path, ".log") {
			held <- struct{}{}
			<-loose
		}
		return nil
	}))})
	if err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	contact := func(name string) *conv.Request {
		return rec.track(command("u0", "phone", pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte(name)}))
	}
	first, second := contact("Bob"), contact("Bobby")
	w.Submit([]*conv.Request{first})
	rec.wait(first)
	slow.Store(true)
	w.Submit([]*conv.Request{second})
	<-held
	page, err := inbox.New(st).Pull(context.Background(), "u0", inbox.PullRequest{Conversation: pim.Own("u0")})
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	close(loose)
	w.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || page.To != 1 || len(page.Entries) != 1 {
		t.Errorf("%d–%d with %d entries, %v", page.From, page.To, len(page.Entries), err)
	}
	st = openPebble(t, crashed)
	defer st.Close()
	if got := settingsOf(t, st, "u0")["contact/bob"]; string(got.Value) != "Bob" {
		t.Errorf("after the crash bob is %q", got.Value)
	}
}
