// Package migrate copies a whole store to another engine and proves that the two are equal. Nobody
// writes to either of them meanwhile.
//
// # What is copied
//
// Every log, with its front, its fence and its records as they are, erased ones included. Every cell
// that a Get would find, with its version and value. What was forgotten is absent in both. The store's
// identity is a log like any other, so the copy has it, too: devices can't tell the two apart.
//
// A cell that expires gets what is left of its lifetime. Engines know that only roughly (the embedded
// one to a week), and always take it for too long rather than too short. So each copy may make it
// live longer by a week and a day.
//
// # How a copy goes on
//
// The store that is copied to keeps a note: whose copy it is, and the token of the page of the
// original that comes next. The note is written when all of a page is durable. A copy that is
// interrupted begins with that page again. What was written of it does no harm: cells commute, and an
// append that finds its records there already goes on behind them. Until the copy is complete and
// proved, nothing but a copy can open that store, see store.Restorer.
//
// # How it is proved
//
// Each store is read as a whole, by a Scan of its own. For each log and each cell a SHA-256 is computed of
// all that is to be equal; the sums of these numbers are compared, because the engines have different
// orders. If the sums differ, each item of one store is looked up in the other one, to tell which ones
// differ. Sums that differ are never called equal. Each page is read once: what a server writes to a store
// after its page was read is not found.
package migrate
