//go:build !unix

package sqlite

import "os"

// takeLock opens path. These systems keep a second process out less strictly:
// SQLite's own locks keep the file whole, but two clients of one device would
// replace each other.
func takeLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
