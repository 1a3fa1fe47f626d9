package conv

import (
	"strconv"
	"testing"

	"github.com/pim-im/pim"
)

// Who keeps as many settings as there may be can still hide.
func TestWhoHidesHasRoom(t *testing.T) {
	c := newConversation(pim.Own("ann"), 1)
	for i := range maxSettings {
		c.keep(strconv.Itoa(i), setting{})
	}
	if err := c.roomFor(&pim.Command{Kind: pim.CommandPin, Subject: "g:x"}); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("a pin: %v", err)
	}
	for _, kind := range []pim.CommandKind{pim.CommandNoReceipts, pim.CommandNoPresence} {
		if err := c.roomFor(&pim.Command{Kind: kind, Subject: "ann"}); err != nil {
			t.Error(err)
		}
	}
}
