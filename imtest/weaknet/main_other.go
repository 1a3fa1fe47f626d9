//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "weaknet needs Linux: network namespaces, and /dev/net/tun")
	os.Exit(1)
}
