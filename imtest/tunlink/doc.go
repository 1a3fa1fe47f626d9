// Package tunlink joins two network namespaces by a link in user space, over
// which real packets pass: delay, jitter, loss, reordering, duplicates, a rate,
// cuts and changes of address meet the kernel's own TCP (or any other protocol
// over IPv4). It needs Linux, root and /dev/net/tun, and no module of the kernel
// such as netem.
//
//	a namespace ── tun ── Link ── tun ── a namespace
//	  Server                                Client
//
// A socket belongs to the namespace in which it was made, whoever uses it later:
// Namespace.Dial, Listen and Do make sockets there.
package tunlink
