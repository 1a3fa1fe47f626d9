// Package receipts tests who is told that a message was read, with a model that is too simple to
// share a fault with the server: it keeps lists of what happened, and looks through all of them
// for every answer.
package receipts
