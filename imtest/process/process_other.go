//go:build !linux

package process

import "syscall"

// diesWithParent can do nothing here: a server whose replay was killed stays.
func diesWithParent() *syscall.SysProcAttr { return nil }
