package process

import "syscall"

// diesWithParent makes a child die with this process, even if this process is killed.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
