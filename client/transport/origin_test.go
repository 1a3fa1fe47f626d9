package transport_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pim-im/pim/client/transport"
)

// A page of an app, which is of another origin than the server, connects.
func TestPagesOfAllOrigins(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := transport.Accept(w, r)
		if err != nil {
			t.Errorf("refused: %v", err)
			return
		}
		conn.Close()
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, origin := range []string{"https://app.example.com", "null", server.URL} {
		conn, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if err != nil {
			t.Errorf("from %s: %v", origin, err)
			continue
		}
		conn.CloseNow()
	}
}
