// Package wholefile writes small files with secrets: all of a file or nothing, whatever ends the program.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Create makes the file at path with data. Only this user may read it. Folders that are missing are made, for
// this user only. The error is fs.ErrExist if path is there; the file is as it was then.
func Create(path string, data []byte) error { return write(path, data, os.Link) } // link fails where rename replaces

// Replace is Create, but puts the new file in place of one that is there.
func Replace(path string, data []byte) error { return write(path, data, os.Rename) }

// write writes data under another name and then has place put that at path.
func write(path string, data []byte, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".part-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
