package account

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/pim-im/pim"
)

// pipePatience is how long the read of a pipe that was named as a file may take. A pipe
// named by mistake must not block for ever, neither at first nor when it is read again.
const pipePatience = 10 * time.Second

// openNamed opens a file that a person has named. A named pipe without a process that
// writes is read as an empty file; a read of a slow one ends with os.ErrDeadlineExceeded.
func openNamed(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		_ = f.SetReadDeadline(time.Now().Add(pipePatience)) // fails for a file on a disk, which needs none
	}
	return f, err
}

// ReadFile reads a file that a person has named, such as a configuration or a
// certificate. A file of more than most bytes ends with KindTooLarge, a pipe that takes
// more than 10 s with os.ErrDeadlineExceeded.
func ReadFile(path string, most int64) ([]byte, error) {
	f, err := openNamed(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = pim.Errorf(pim.KindTooLarge, "%s is longer than %s", path, bytesText(most))
	}
	return data, err
}

func bytesText(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
