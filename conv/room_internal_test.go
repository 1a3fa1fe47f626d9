package conv

import (
	"strconv"
	"testing"

	"github.com/pim-im/pim"
)

// Who keeps as many settings as there may be can still switch receipts off.
func TestNoReceiptsHaveRoom(t *testing.T) {
	c := newConversation(pim.Own("ann"), 1)
	for i := range maxSettings {
		c.keep(strconv.Itoa(i), setting{})
	}
	if err := c.roomFor(&pim.Command{Kind: pim.CommandPin, Subject: "g:x"}); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("a pin: %v", err)
	}
	if err := c.roomFor(&pim.Command{Kind: pim.CommandNoReceipts, Subject: "ann"}); err != nil {
		t.Error(err)
	}
}
