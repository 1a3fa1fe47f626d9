package load

import (
	"context"
	"net/url"

	"github.com/pim-im/pim"
)

func runChat(context.Context, *Config) (Report, error)  { return Report{}, pim.Errorf(pim.KindUnsupported, "not in this commit") }
func runIdle(context.Context, *Config) (Report, error)  { return runChat(nil, nil) }
func runSync(context.Context, *Config) (Report, error)  { return runChat(nil, nil) }
func runRelay(context.Context, *Config) (Report, error) { return runChat(nil, nil) }

func metricsURL(w Workload, u *url.URL) string { return "" }

// ServeRelay serves the relay on listen until ctx ends. It calls ready with the
// address it listens on.
func ServeRelay(ctx context.Context, listen string, ready func(addr string)) error {
	return pim.Errorf(pim.KindUnsupported, "not in this commit")
}
