package conv

import "github.com/pim-im/pim"

// reason names the bound for which a request was refused. It is the cause in the request's
// error, and a metric label.
type reason string

const (
	queueFull        reason = "queue_requests"     // of the conversation's driver
	queueTooLarge    reason = "queue_bytes"        // of all drivers together
	queueShared      reason = "queue_share"        // of one user in that of a driver
	payloadTooLarge  reason = "payload_bytes"      // of one message
	tooManyMembers   reason = "group_members"      // present members
	tooManyEver      reason = "group_members_ever" // present and former members
	tooManySettings  reason = "settings"           // settings of a user
	settingsTooLarge reason = "setting_bytes"      // values of all settings of a user
	tooManyEdits     reason = "edits"              // of one message
	tooManyReactions reason = "reactions"          // to one message
	tooManyPins      reason = "pins"               // of one conversation
	tooManyMentions  reason = "mentions"           // of one message
	idsTooWide       reason = "message_ids"        // messages to read to look one client message ID up
	manyLookups      reason = "look_ups"           // of one user's messages, which wait
	groupsCreated    reason = "groups_created"     // by one user in an hour
	membersAdded     reason = "members_added"      // by one user in an hour
	strangers        reason = "strangers"          // written to by one user in an hour
	userBytes        reason = "user_bytes"         // stored for one user in a day
	overload         reason = "overload"           // the time that work waits in the node's queues
)

var reasons = []reason{
	queueFull, queueTooLarge, queueShared, payloadTooLarge, tooManyMembers, tooManyEver, tooManySettings, settingsTooLarge, tooManyEdits,
	tooManyReactions, tooManyPins, tooManyMentions, idsTooWide, manyLookups, groupsCreated, membersAdded, strangers, userBytes, overload,
}

// Error returns the label.
func (r reason) Error() string { return string(r) }

// tooLarge returns the error of a request that is refused for r, of KindTooLarge.
func (r reason) tooLarge(format string, args ...any) error {
	err := pim.Errorf(pim.KindTooLarge, format, args...)
	err.Err = r
	return err
}
