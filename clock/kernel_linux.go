package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// askKernel reads what a time service has told the kernel. It changes nothing.
func askKernel() (Kernel, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return Kernel{}, err
	}
	unit := time.Microsecond
	if t.Status&unix.STA_NANO != 0 {
		unit = time.Nanosecond // applies to the offset only
	}
	return Kernel{
		Synchronised: t.Status&unix.STA_UNSYNC == 0,
		Offset:       time.Duration(t.Offset) * unit,
		Error:        time.Duration(t.Esterror) * time.Microsecond,
		MaxError:     time.Duration(t.Maxerror) * time.Microsecond,
	}, nil
}
