package conv

import "github.com/pim-im/pim"

// reason is which bound a request was refused for: the cause of its error, and a
// metric label.
type reason string

const (
	queueFull        reason = "queue_requests"     // of the conversation's shard
	queueTooLarge    reason = "queue_bytes"        // of all shards together
	payloadTooLarge  reason = "payload_bytes"      // of one message
	tooManyMembers   reason = "group_members"      // present ones
	tooManyEver      reason = "group_members_ever" // with former ones
	tooManySettings  reason = "settings"           // of a user
	settingsTooLarge reason = "setting_bytes"      // of all of them
	idsTooWide       reason = "message_ids"        // messages that an ID may be one of
)

var reasons = []reason{
	queueFull, queueTooLarge, payloadTooLarge, tooManyMembers, tooManyEver, tooManySettings, settingsTooLarge, idsTooWide,
}

// Error returns the label.
func (r reason) Error() string { return string(r) }

// tooLarge returns the error of a request that is refused for r.
func (r reason) tooLarge(format string, args ...any) error {
	err := pim.Errorf(pim.KindTooLarge, format, args...)
	err.Err = r
	return err
}
