/**
 * A length of time, or a point on the monotonic clock, in whole nanoseconds. The Go engine counts
 * in nanoseconds too, so both round alike, and give the same outputs. A number holds them exactly
 * for 104 days. After that a step is off by a few nanoseconds, which nobody sees.
 */
export type Duration = number;

export const millisecond: Duration = 1_000_000;
export const second: Duration = 1_000 * millisecond;
export const minute: Duration = 60 * second;
export const hour: Duration = 60 * minute;

/** A point in time that does not come: no timer is set. */
export const never: Duration = Infinity;

/** Returns d in whole milliseconds. */
export function millis(d: Duration): number {
  return Math.trunc(d / millisecond);
}

/** Returns a random time below limit, if random is in [0, 1). */
export function randomUpTo(limit: Duration, random: () => number): Duration {
  return Math.trunc(random() * limit);
}
