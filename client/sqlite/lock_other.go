//go:build !unix

package sqlite

import "os"

// lockFiles opens the file beside path, and does not lock it. So on these systems a
// second process can open the store: SQLite's own locks keep the file whole, but the
// two clients of one device would replace each other.
func lockFiles(path string) ([]*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return []*os.File{f}, nil
}
