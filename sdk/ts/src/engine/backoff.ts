import { PimError } from "../pim/index.js";
import { type Duration, millisecond, minute, randomUpTo, second } from "./duration.js";

// A refused token is no reason to stop. The app gives a new token for every attempt; and a server
// that took a good token for expired, because its clock was wrong, may be right the next time. But a
// server whose clock or keys are wrong refuses all its clients at once, and they must not hammer at
// it. So the waits grow, up to minutes, and in the first 2·backoffMin nothing that the app does makes
// the engine dial.

const goodAfter = second; // a connection that lived so long resets the backoff
// If the token was valid when the connection was made, the server ends it no earlier than exp plus
// its leeway of 30 s.
const tokenProven = 30 * second;
const refusalFactor = 10; // times backoffMax is the longest wait after a refused token

/** A longer wait named by a Welcome, PIMGoAway or refusal is cut to it. */
export const maxWindow = 10 * minute;

/** How long to wait between rounds of attempts to connect. */
export class Backoff {
  #failures = 0; // failures in a row: rounds, and connections that were not good
  #refusals = 0; // tokens that were refused since one was last good
  #refusedAt: Duration = 0;

  #open = false; // there is a connection
  #openedAt: Duration = 0;
  #window: Duration = 0; // from its Welcome: spread of the first wait after it

  readonly #min: Duration;
  readonly #max: Duration;
  readonly #random: () => number;

  /** min and max are Config.backoffMin and backoffMax. */
  constructor(min: Duration, max: Duration, random: () => number) {
    this.#min = min;
    this.#max = max;
    this.#random = random;
  }

  /** Notes a Welcome. */
  opened(now: Duration, window: Duration): void {
    this.#open = true;
    this.#openedAt = now;
    this.#window = window;
  }

  /** Notes that the connection is left, if there is one. */
  left(now: Duration): void {
    this.#proven(now);
    this.#open = false;
  }

  /** Makes the next wait the shortest: earlier failures say nothing any more. */
  forget(): void {
    this.#failures = 0;
  }

  /**
   * Returns how long to wait before the next round, because the round, or the connection, has come
   * to nothing. After a connection that was good it is a random time within the window that the
   * server gave, because its other clients may have lost it in the same moment. Else it is a random
   * time up to min(backoffMin·2ⁿ, backoffMax), n being the failures in a row before this one, which
   * it counts.
   */
  lost(now: Duration): Duration {
    if (this.#open && now - this.#openedAt >= goodAfter) {
      this.#failures = 0;
      return randomUpTo(this.#window || this.#min, this.#random);
    }
    const limit = this.#grown(this.#failures, this.#max);
    this.#failures++;
    return randomUpTo(limit, this.#random);
  }

  /**
   * Returns how long to wait because a token was refused: after the n-th refusal in a row, n from 1,
   * a random time up to min(backoffMin·2ⁿ, 10·backoffMax). A token that ran out on a connection that
   * proved it good counts as any other loss (lost).
   */
  refused(now: Duration): Duration {
    if (this.#proven(now)) {
      return this.lost(now);
    }
    this.#refusals++;
    this.#refusedAt = now;
    return randomUpTo(this.#grown(this.#refusals, refusalFactor * this.#max), this.#random);
  }

  /**
   * Reports whether the connection has lived long enough to prove its token good. If so, it forgets
   * the refusals before it.
   */
  #proven(now: Duration): boolean {
    const good = this.#open && now - this.#openedAt >= tokenProven;
    if (good) {
      this.#refusals = 0;
    }
    return good;
  }

  /**
   * Returns until when the server is spared a dial, because it refused a token a moment ago;
   * undefined if the server may be dialled now.
   */
  sparedUntil(now: Duration): Duration | undefined {
    const at = this.#refusedAt + 2 * this.#min;
    return this.#refusals > 0 && now < at ? at : undefined;
  }

  /**
   * Returns how long whoever refused a token, or gave none, wants to be left alone, plus a random time of
   * up to a quarter of that: those who are told so should not all come back in the same moment. 0: err
   * names no time.
   */
  askedFor(err: PimError): Duration {
    const wait = timeOf(err);
    return wait && wait + Math.trunc((this.#random() * wait) / 4);
  }

  /** Returns min·2ⁿ, at most limit. */
  #grown(n: number, limit: Duration): Duration {
    return n < 30 ? Math.min(this.#min * 2 ** n, limit) : limit;
  }
}

/** Returns the time that err names, at most maxWindow; 0: none. */
export function timeOf(err: Error): Duration {
  return err instanceof PimError && err.retryAfter > 0 ? Math.min(retryAfterOf(err), maxWindow) : 0;
}

/** Returns err.retryAfter, which is in milliseconds, as a Duration. */
export function retryAfterOf(err: PimError): Duration {
  return err.retryAfter * millisecond;
}

/**
 * Returns a random wait before the n-th repetition of a request, n from 1: between half of 2ⁿ⁻¹
 * seconds and all of it, at most 30 s.
 */
export function repeatAfter(n: number, random: () => number): Duration {
  const half = Math.min(second * 2 ** Math.min(n - 1, 10), 30 * second) / 2;
  return half + randomUpTo(half, random);
}
