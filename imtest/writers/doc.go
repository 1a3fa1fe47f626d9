// Package writers tests that two writers over one store give right answers, not only
// that they write a right log.
//
// Users send messages, change groups, block each other and read, through two conv.Writers at
// random, several requests at a time and some of them twice. In one process a schedule decides
// when each call of the store takes effect and when its caller hears of it, so the same seed
// gives the same run, to the last step. In two processes the second writer is this test
// program again; the store is behind a socket, and SIGKILL ends the second writer now and then.
//
// The judge knows what the logs held at the end, and when each request was sent and answered.
// From that follows which states of a log were possible at a moment. A refusal is right if it
// follows from a state that was possible between the request and its answer; that what was
// accepted is in the log, once, is for the checker of package imtest.
package writers
