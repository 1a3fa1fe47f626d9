package tunlink

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	deviceName = "pim0"
	mtu        = 1500
)

var netmask = []byte{255, 255, 0, 0}

// openDevice makes the tun device of s, gives it address and turns it on.
func (s *Namespace) openDevice(address [4]byte) (dev *os.File, err error) {
	err = s.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(deviceName)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("make a tun device: %w", err)
		}
		dev = os.NewFile(uintptr(fd), deviceName) // after TUNSETIFF: only then can the runtime poll it
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.setUp(address); err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

func (s *Namespace) setUp(address [4]byte) error {
	if err := s.setAddress(address); err != nil {
		return err
	}
	return s.control(func(fd int) error {
		for _, name := range []string{deviceName, "lo"} {
			req, err := unix.NewIfreq(name)
			if err != nil {
				return err
			}
			req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
				return fmt.Errorf("turn %s on: %w", name, err)
			}
		}
		return nil
	})
}

// setAddress gives the device an address in place of its present one.
func (s *Namespace) setAddress(address [4]byte) error {
	return s.control(func(fd int) error {
		for _, set := range []struct {
			what    uint
			address []byte
		}{{unix.SIOCSIFADDR, address[:]}, {unix.SIOCSIFNETMASK, netmask}} {
			req, err := unix.NewIfreq(deviceName)
			if err != nil {
				return err
			}
			if err := req.SetInet4Addr(set.address); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(fd, set.what, req); err != nil {
				return fmt.Errorf("give %s the address %v: %w", deviceName, address, err)
			}
		}
		return nil
	})
}

// control calls f with a socket of the namespace, as interface requests need.
func (s *Namespace) control(f func(fd int) error) error {
	return s.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return f(fd)
	})
}
