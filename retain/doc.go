// Package retain removes old entries. A Sweeper goes through the index of logs (inbox.Logs) about
// once an hour, and trims the logs whose oldest entries were written longer ago than they are
// kept.
//
// An entry is never removed before its time, and is removed some hours after it, or much later
// if the node was off or busy. Two Sweepers over one store do no harm, in one process or in two.
// Each decides by the entries alone, a trim may be repeated, and of the cells that both write any
// is true.
package retain
