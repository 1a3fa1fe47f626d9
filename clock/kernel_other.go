//go:build !linux

package clock

import "errors"

func askKernel() (Kernel, error) {
	return Kernel{}, errors.New("this system's kernel cannot be asked about its clock")
}
