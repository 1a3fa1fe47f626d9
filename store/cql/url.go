package cql

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/pim-im/pim"
)

// Scheme begins the URL of a store on Cassandra.
const Scheme = "cql://"

const urlUsage = "write cql://HOST[:PORT][,HOST…]/KEYSPACE"

// ParseURL returns Options with the hosts, the port and the keyspace of cql://HOST[:PORT][,HOST…]/KEYSPACE.
// All hosts have the same port. Errors are of KindInvalid. A URL with a user or a password is
// refused, because others see command lines.
func ParseURL(text string) (Options, error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	hosts, keyspace, path := strings.Cut(rest, "/")
	if !ok || !path || hosts == "" {
		return Options{}, pim.Errorf(pim.KindInvalid, "%q names no store: %s", text, urlUsage)
	}
	if strings.Contains(hosts, "@") {
		return Options{}, pim.Errorf(pim.KindInvalid, "the store's URL has a user or a password in it, which everybody on this machine could read: leave that out")
	}
	o := Options{Keyspace: keyspace}
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("cql://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return Options{}, pim.Errorf(pim.KindInvalid, "%q is no host: %s", host, urlUsage)
		}
		if port := u.Port(); port != "" {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 || o.Port != 0 && o.Port != int(n) {
				return Options{}, pim.Errorf(pim.KindInvalid, "%q: the port must be a number to 65535, and the same one for all hosts", host)
			}
			o.Port = int(n)
		}
		o.Hosts = append(o.Hosts, u.Hostname())
	}
	return o, o.check()
}

// URL returns the URL that ParseURL reads.
func (o *Options) URL() string {
	hosts := make([]string, len(o.Hosts))
	for i, host := range o.Hosts {
		if hosts[i] = host; o.Port != 0 && o.Port != defaultPort {
			hosts[i] = net.JoinHostPort(host, strconv.Itoa(o.Port))
		} else if strings.Contains(host, ":") {
			hosts[i] = "[" + host + "]"
		}
	}
	return Scheme + strings.Join(hosts, ",") + "/" + o.Keyspace
}
