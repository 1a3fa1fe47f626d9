//go:build unix

package account

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/pim-im/pim"
)

// everyoneWrites reports whether any user of this machine may write the file.
func everyoneWrites(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// judgeMode looks at who besides its owner may read or write a file that holds what
// signs tokens. If it is ours, we say what to do and refuse it. If another user owns
// it, as with secrets that are mounted into a container, its mode is not ours to
// change, a group may be how we read it, and what is open to everyone gets a warning.
func judgeMode(path string, info fs.FileInfo) (warning string, err error) {
	mode := info.Mode().Perm()
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case mode&0o077 == 0:
		return "", nil
	case ok && int(owner.Uid) == os.Geteuid():
		return "", &pim.Error{
			Op: "key file " + path, Kind: pim.KindForbidden,
			Text: fmt.Sprintf("its mode is %04o, so that others may read what signs tokens and become any user; run: chmod 600 %s (a secret mounted into a container: mount it with mode 0400)", mode, path),
		}
	case mode&0o007 != 0:
		return fmt.Sprintf("its mode is %04o: every user of this machine may read what signs tokens, and become any user", mode), nil
	}
	return "", nil
}
