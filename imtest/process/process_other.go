//go:build !linux

package process

import "syscall"

// diesWithParent can do nothing here: if a replay is killed, its server goes on running.
func diesWithParent() *syscall.SysProcAttr { return nil }
