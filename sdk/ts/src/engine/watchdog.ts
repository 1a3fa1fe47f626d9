import { type Duration, never, second } from "./duration.js";

// A dead connection does not say so. It is noticed in three ways: a heartbeat is not answered; an
// answer is awaited, and no frame comes at all; several requests in a row are not answered, whatever
// other frames come.

const pongTimeout = 8 * second;
const silenceTimeout = 3 * second; // without a frame while an answer is awaited: a ping is due
const deadAfter = 10 * second; // without a frame while an answer is awaited: the connection is dead
export const maxUnanswered = 3; // requests in a row

/** What the watchdog makes of a connection; quiet: a ping is due; silent: a ping was not answered. */
export type Health = "healthy" | "quiet" | "silent";

/**
 * Notices that a connection is dead. What it says means nothing without a connection, and while the
 * shell does not read.
 */
export class Watchdog {
  #nonce = 0; // of the last ping
  #pongBy: Duration = 0; // by when a frame must have come; 0: no ping is under way
  #silentAt: Duration = never; // since when an answer is awaited and no frame has come; never: none is awaited

  #judgedAt: Duration = 0; // when a request was last answered, or found unanswered
  #missed = 0; // requests in a row that were not answered in time
  #rowAt: Duration = 0; // when the first of them was transmitted

  readonly #timeout: Duration;

  /** timeout is Config.requestTimeout. */
  constructor(timeout: Duration) {
    this.#timeout = timeout;
  }

  /** Notes a Welcome. */
  opened(now: Duration): void {
    this.left();
    this.#judgedAt = now;
  }

  /** Notes that the connection, if there was one, is left. */
  left(): void {
    this.#pongBy = 0;
    this.#silentAt = never;
    this.#missed = 0;
  }

  /** Notes that a frame has come. The connection works, whatever the frame is. */
  frame(): void {
    this.#pongBy = 0;
    this.#silentAt = never;
  }

  /**
   * Notes that bytes of an incomplete frame came, or went out, at the time at. The line works, and no
   * answer behind that frame can have come.
   */
  bytes(at: Duration, now: Duration): void {
    if (this.#pongBy !== 0) {
      this.#pongBy = Math.max(this.#pongBy, at + pongTimeout);
    }
    if (this.#silentAt !== never) {
      this.#silentAt = Math.max(this.#silentAt, at);
    }
    this.answered(now);
  }

  /** Notes that the shell reads again: while it did not, no frame could come. */
  resumed(now: Duration): void {
    if (this.#pongBy !== 0) {
      this.#pongBy = now + pongTimeout;
    }
    this.#silentAt = never;
  }

  /** Notes whether an answer is awaited. It is called after each step of a connection. */
  listen(awaited: boolean, now: Duration): void {
    if (!awaited) {
      this.#silentAt = never;
    } else if (this.#silentAt === never) {
      this.#silentAt = now;
    }
  }

  /** Notes that the server has answered a request. */
  answered(now: Duration): void {
    this.#judgedAt = now;
    this.#missed = 0;
  }

  /**
   * Notes that a request, transmitted at sentAt, was not answered in time. Requests that waited
   * together fail together, and count once: a burst that a slow server answers late is no sign of a
   * dead connection. So the next request that counts is one that was transmitted after this failure.
   */
  unanswered(sentAt: Duration, now: Duration): void {
    if (sentAt < this.#judgedAt) {
      return;
    }
    if (this.#missed === 0) {
      this.#rowAt = sentAt;
    }
    this.#missed++;
    this.#judgedAt = now;
  }

  /** Notes that a ping goes out now, and returns its nonce. */
  pinged(now: Duration): number {
    this.#nonce++;
    if (this.#pongBy === 0) {
      this.#pongBy = now + pongTimeout;
    }
    return this.#nonce;
  }

  /**
   * Notes that silence calls for the ping that goes out now. The answer's time counts from now, not
   * from the beginning of the silence: if the process stood still, the answers may have come without
   * having been read.
   */
  probed(now: Duration): void {
    this.#pongBy = now + deadAfter - silenceTimeout;
  }

  /** Returns when silence calls for a ping. */
  #quietAt(): Duration {
    return this.#silentAt === never || this.#pongBy !== 0 ? never : this.#silentAt + silenceTimeout;
  }

  /**
   * Returns when the connection is to be given up because requests are not answered: after three in a
   * row, but not sooner than two requestTimeouts after the first of them, since sends are repeated
   * faster than that, and other frames do come.
   */
  uselessAt(): Duration {
    return this.#missed < maxUnanswered ? never : this.#rowAt + 2 * this.#timeout;
  }

  /** Returns how the connection is, as far as frames tell. */
  health(now: Duration): Health {
    if (this.#pongBy !== 0 && now >= this.#pongBy) {
      return "silent";
    }
    return now >= this.#quietAt() ? "quiet" : "healthy";
  }

  /** Returns when the connection is quiet, silent or useless, if nothing comes. */
  deadline(): Duration {
    const at = Math.min(this.#quietAt(), this.uselessAt());
    return this.#pongBy !== 0 ? Math.min(at, this.#pongBy) : at;
  }
}
