//go:build unix

package main

import "syscall"

// keepPrivate makes every file and directory that this process makes its owner's
// only: stores and keys hold what others must not read.
func keepPrivate() { syscall.Umask(0o077) }
