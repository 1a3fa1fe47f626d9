// Package inbox is the downlink: what each user has been sent, what each device
// has acknowledged, and how a device that is behind catches up.
//
// A device's offline list is a subtraction, for each conversation: the newest
// seq that was sent to the user (Line) minus the seq that the device
// acknowledged. The writer stores a Line for every member together with the
// entry, before any push; nothing is stored for each message and member.
//
// Catching up takes two steps. Sync lists the conversations that are behind,
// page by page; Pull reads their entries, page by page. Neither ever holds more
// than a page, however long the list is.
//
// Entries pass through as the bytes the writer made (see wire.AppendEntry).
package inbox
