//go:build unix

package main

import "syscall"

// keepPrivate makes every file and directory that this process creates accessible to its
// owner only: stores and keys hold what others must not read.
func keepPrivate() { syscall.Umask(0o077) }
