package client_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// A pin that is none, or that would not be looked at, is refused before anything is sent.
func TestPinsThatAreRefused(t *testing.T) {
	const pin = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, c := range []struct{ server, pin string }{
		{"https://192.0.2.1:1", "AAAA"},
		{"https://192.0.2.1:1", pin[:43]},
		{"wss://192.0.2.1:1", "sha256/" + pin},
		{"http://127.0.0.1:1", pin},
		{"ws://127.0.0.1:1", pin},
		{"tcp://127.0.0.1:1", pin},
	} {
		app, err := client.Open(t.Context(), client.Options{
			Server: c.server, Device: "d", TLSPin: c.pin, Token: func(context.Context) (string, error) { return "t", nil },
		})
		if err == nil {
			app.Close()
		}
		if pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s with pin %q: %v, want invalid", c.server, c.pin, err)
		}
	}
	if r := client.TLSReasonOf(errors.Join(io.EOF)); r != "" {
		t.Errorf("the end of a connection is %q", r)
	}
}
