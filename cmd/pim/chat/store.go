package chat

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

// maxDevices is how many chats of one user may be open at a time on one data
// directory.
const maxDevices = 64

// OpenStore opens the local store of one of user's devices below dir, and returns it with
// the device. If device is empty, OpenStore takes the first of chat-1, chat-2 … that no
// other chat has open. The caller must close the store. Errors are those of sqlite.Open;
// KindUnavailable if the directory cannot be created; KindConflict if maxDevices chats
// are open.
func OpenStore(ctx context.Context, dir string, user pim.UserID, device pim.DeviceID) (client.Store, pim.DeviceID, error) {
	dir = filepath.Join(dir, fileName(string(user)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", pim.Errorf(pim.KindUnavailable, "local store: %w", err)
	}
	if device != "" {
		store, err := open(ctx, dir, device)
		return store, device, err
	}
	for n := range maxDevices {
		device = pim.DeviceID(fmt.Sprintf("chat-%d", n+1))
		store, err := open(ctx, dir, device)
		if pim.KindOf(err) != pim.KindConflict {
			return store, device, err
		}
	}
	return nil, "", pim.Errorf(pim.KindConflict, "%d chats of %s are open already", maxDevices, user)
}

func open(ctx context.Context, dir string, device pim.DeviceID) (client.Store, error) {
	store, err := sqlite.Open(ctx, filepath.Join(dir, fileName(string(device))+".db"))
	if err != nil {
		return nil, err
	}
	return store, nil
}

// fileName returns a file name for a user or device. No other user or device has the same
// name, not even on a file system that does not tell a from A.
func fileName(id string) string {
	var b strings.Builder
	for _, r := range id {
		if r == '-' || r == '_' || unicode.IsDigit(r) || unicode.IsLetter(r) && unicode.ToLower(r) == r {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(string(r)) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
