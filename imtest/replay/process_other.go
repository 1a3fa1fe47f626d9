//go:build !linux

package replay

import "syscall"

// diesWithParent can do nothing here: a server whose replay was killed stays.
func diesWithParent() *syscall.SysProcAttr { return nil }
