//go:build !unix

package account

import "io/fs"

// On these systems files have no mode that says who may read them.

func everyoneWrites(fs.FileInfo) bool { return false }

func judgeMode(string, fs.FileInfo) (warning string, err error) { return "", nil }
