package process

import "syscall"

// diesWithParent lets a process die with this one, also when that is killed.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
