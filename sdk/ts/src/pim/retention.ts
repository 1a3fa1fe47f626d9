import type { Millis } from "./limits.js";

/**
 * For how long a conversation says that its entries are kept: the outcome of the retains in its log, in their order. Times
 * are in milliseconds, and 0 as a length of time means for ever, or for as long as the server keeps entries.
 */
export interface Retention {
  /** What the last retain says. */
  readonly age: Millis;
  /** What holds until from. */
  readonly before: Millis;
  /** The server time from which age holds; 0: it holds already. */
  readonly from: Millis;
}

/** The retention of a conversation that says nothing. */
export const noRetention: Retention = { age: 0, before: 0, from: 0 };

/** Returns for how long entries are kept at the server time now; 0: the conversation does not say. */
export function retentionAt(r: Retention, now: Millis): Millis {
  return now < r.from ? r.before : r.age;
}

/** Returns r on a server that keeps entries for age, 0 for ever: nothing is kept for longer. */
export function retentionWithin(r: Retention, age: Millis): Retention {
  const within = (own: Millis): Millis => (isShorter(age, own) ? age : own);
  return { age: within(r.age), before: within(r.before), from: r.from };
}

/** Reports whether entries that are kept for a leave before those that are kept for b. */
function isShorter(a: Millis, b: Millis): boolean {
  return a !== 0 && (b === 0 || a < b);
}
