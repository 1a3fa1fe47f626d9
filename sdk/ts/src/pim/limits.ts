/** A position in a conversation's log. The first entry has seq 1; 0 means "before the first". */
export type Seq = number;

/**
 * A point in time, in milliseconds since 1970-01-01 UTC, or a length of time in milliseconds.
 *
 * Seqs, counts and times are numbers and not bigints. They fit: the greatest safe integer, 2^53 − 1, is a million messages
 * a second for 285 years, and as a time the year 287396. Numbers cost no allocation, are keys of IndexedDB and of Map,
 * and go through JSON. What comes from outside and is greater is not rounded: see decode.
 */
export type Millis = number;

// Limits of protocol v1. A server may announce lower ones in its Welcome, never higher ones.

/** Bytes in one entry's payload. */
export const maxPayload = 64 << 10;
/** Bytes in one frame: type byte and body. */
export const maxFrame = 256 << 10;
/** Entries in one pull page. */
export const maxPageEntries = 1000;
/** Bytes in one pull page, over all its frames. */
export const maxPageBytes = 1 << 20;
/** Present members of a group. */
export const maxGroupMembers = 2000;
/** Bytes in a UserID or DeviceID. */
export const maxIDBytes = 64;

/**
 * How long, at least, the server remembers a client message ID, in milliseconds: a send that is repeated within it gets
 * the first answer (invariant I2).
 */
export const dedupWindow: Millis = 7 * 24 * 60 * 60 * 1000;
