package main

// The Help methods are what `pim COMMAND --help` says below the line about the command:
// what holds there and cannot be seen from the flags.

// Help says where the seq is.
func (*sendCmd) Help() string {
	return "It prints the message's seq (stored: d:alice:bob #7), which edit, recall, react and others take. " +
		"A message has at most 65,536 bytes. Users are not registered: --to somebody who does not exist begins a conversation with them."
}

// Help says that nothing counts as delivered.
func (*tailCmd) Help() string {
	return "Nothing counts as delivered or read by it. Edits, recalls and reactions are entries of their own."
}

// Help says who may, and for how long.
func (*editCmd) Help() string {
	return "Only its sender edits a message, for 24 hours unless the server is set otherwise (--edit-window). " +
		"An edit mentions nobody; mentions of before stay counted until the message is read."
}

// Help says who may, and for how long.
func (*recallCmd) Help() string {
	return "Its sender recalls a message for 2 minutes unless the server is set otherwise (--recall-window), a group's owner at any time. " +
		"It is emptied everywhere; replies to it keep an excerpt, which is not shown, and it counts as unread until it is read."
}

// Help says what stays.
func (*eraseCmd) Help() string {
	return "It cannot be undone. Messages and edits are emptied; reactions, pins, names, joinings and the excerpts in others' replies stay. " +
		"What you wrote in groups that you have left goes, too."
}

// Help says what a reaction is.
func (*reactCmd) Help() string { return "A reaction has at most 32 bytes." }

// Help says what a block does.
func (*blockCmd) Help() string {
	return "A blocked user cannot send to your direct conversation, nor see when you are connected and what you have read there. In groups a block does nothing."
}

// Help says what is not known.
func (*receiptsCmd) Help() string {
	return "What is not known of a direct conversation has not been delivered or read yet, or the other user does not tell: " +
		"what is read with receipts off, and neither with a block. What tail and other commands print does not count as delivered. " +
		"A time is when the user had read as far as they have now: a message was read then or before, and its time moves when they read on."
}

// Help says who is shown.
func (*lookCmd) Help() string {
	return "Who is connected and when is unknown of users who have not written to you and do not have you among their contacts, " +
		"of those who hide it, and where one of you blocks the other. When a user was connected last is up to a minute too old."
}
