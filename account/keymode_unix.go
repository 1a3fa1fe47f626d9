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

// judgeMode judges who besides its owner may read or write a file that holds what signs
// tokens. A file of this process's own user that is open to others is refused, with an
// error that says what to run. A file of another user, such as a secret that is mounted
// into a container, is accepted: its mode is not ours to change, and this process may be
// able to read it only through its group. If it is open to everyone, there is a warning.
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
