import { type Duration, millis, millisecond } from "../engine/duration.js";
import { type Time } from "../engine/index.js";

/** Tells the time and sets timers. Tests have one of their own. */
export interface Clock {
  /** Returns what both clocks of the device say. */
  now(): Time;
  /** Calls f once, d from now, unless the function that it returns is called before. */
  after(d: Duration, f: () => void): () => void;
}

/** A longer wait makes setTimeout fire at once. */
const longest = 2 ** 31 - 1;

/** The clock of the browser, or of Node. */
export const systemClock: Clock = {
  now: () => ({ mono: Math.trunc(performance.now() * millisecond), wall: Date.now() }),
  after(d, f) {
    // Rounded up: a timer that fires early would be set again for less than a millisecond.
    const timer = setTimeout(f, Math.min(Math.max(millis(d + millisecond - 1), 0), longest));
    return () => clearTimeout(timer);
  },
};
