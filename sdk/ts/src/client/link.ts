import { type Duration, type Input, type Lost, second } from "../engine/index.js";
import { PimError } from "../pim/index.js";
import { decode, encode, type FrameInit } from "../wire/index.js";
import { type Clock } from "./clock.js";
import { type Conn } from "./connection.js";

const maxUnread = 16; // frames that wait for the loop, then reading stops if it can be stopped
const maxUnreadBytes = 8 << 20; // of a connection whose reading can't be stopped
const maxUnsent = 8 << 20; // bytes that wait for the network
const writeTimeout: Duration = 10 * second; // how long the network may take nothing
const lastWords: Duration = second / 4; // for frames that are queued when the client is closed

/**
 * One connection. The loop owns it: it takes what has come, and sends. Once the loop has let go of a link, what still comes is
 * dropped.
 */
export class Link {
  readonly attempt: number;
  readonly #conn: Conn;
  readonly #clock: Clock;
  readonly #wake: () => void;
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #lost: Lost | undefined; // to be taken when all of unread is
  #reading = true;
  #arrived: Duration = 0; // when bytes came last
  // What is on the way out: how much was left when it was looked at last, and when it became less.
  #unsent = 0;
  #moved: Duration = 0;
  #endTimer: (() => void) | undefined;
  #finished: (() => void) | undefined;

  /** wake is called when there is something to take. */
  constructor(attempt: number, conn: Conn, clock: Clock, wake: () => void) {
    this.attempt = attempt;
    this.#conn = conn;
    this.#clock = clock;
    this.#wake = wake;
    conn.start({
      frame: (bytes) => {
        this.#arrived = clock.now().mono;
        this.#unread.push(bytes);
        this.#unreadBytes += bytes.length;
        if (this.#unreadBytes > maxUnreadBytes) {
          this.#fail(new PimError("overloaded", "more has come than the app takes"));
        }
        this.#read(this.#unread.length < maxUnread);
        wake();
      },
      bytes: () => (this.#arrived = clock.now().mono),
      closed: (err, code) => {
        this.#lost ??= { type: "lost", attempt, err, code };
        this.#finished?.();
        wake();
      },
    });
  }

  /** Reports whether there is something to take. */
  get ready(): boolean {
    return this.#unread.length > 0 || this.#lost !== undefined;
  }

  /** Returns what has come, in order: frames, and at the end Lost; undefined if there is nothing. */
  take(): Input | undefined {
    const bytes = this.#unread.shift();
    if (bytes === undefined) {
      return this.#lost;
    }
    this.#unreadBytes -= bytes.length;
    this.#read(this.#unread.length < maxUnread);
    try {
      return { type: "frame", attempt: this.attempt, message: decode(bytes) };
    } catch (err) {
      if (!(err instanceof PimError)) {
        throw err;
      }
      this.#unread = [];
      this.#conn.close();
      return (this.#lost = { type: "lost", attempt: this.attempt, err, code: 0 });
    }
  }

  /**
   * Queues frames. The engine bounds what is under way, so the bound of what is queued is reached only if the network takes
   * nothing for long; then the connection ends.
   */
  send(frames: readonly FrameInit[]): void {
    this.moved(); // before there is more
    if (this.#unsent === 0) {
      this.#moved = this.#clock.now().mono;
    }
    this.#conn.write(frames.map(encode));
    this.#unsent = this.#conn.unsent;
    if (this.#unsent > maxUnsent) {
      this.#fail(new PimError("timeout", "the connection does not take what is sent"));
    } else {
      this.#watch();
    }
  }

  /**
   * Returns when bytes last moved on the connection, either way, if it is busy: a frame has arrived in part, or the loop has not
   * taken one yet, or frames wait to be transmitted. If the connection is idle, it returns undefined.
   */
  moved(): Duration | undefined {
    const now = this.#clock.now().mono;
    const unsent = this.#conn.unsent;
    if (unsent < this.#unsent) {
      this.#moved = now;
    }
    this.#unsent = unsent;
    if (this.#unread.length > 0) {
      return now;
    }
    const arrived = this.#conn.partial ? this.#arrived : undefined;
    return unsent > 0 ? Math.max(this.#moved, arrived ?? 0) : arrived;
  }

  /** Lets go of the connection at once. */
  close(): void {
    this.#endTimer?.();
    this.#conn.close();
  }

  /** Lets go of the connection when what is queued is transmitted, or after lastWords. */
  async finish(): Promise<void> {
    this.#endTimer?.();
    if (this.#lost === undefined) {
      await new Promise<void>((resolve) => {
        this.#finished = resolve;
        this.#endTimer = this.#clock.after(lastWords, resolve);
        this.#conn.pause(false); // what comes now is dropped; the next sync makes up for it
        this.#conn.finish();
      });
    }
    this.close();
  }

  #read(on: boolean): void {
    if (on !== this.#reading) {
      this.#reading = on;
      this.#conn.pause(!on);
    }
  }

  /** Looks once in a second whether the network takes what waits for it. */
  #watch(): void {
    if (this.#unsent === 0 || this.#endTimer !== undefined) {
      return;
    }
    this.#endTimer = this.#clock.after(second, () => {
      this.#endTimer = undefined;
      this.moved();
      if (this.#unsent > 0 && this.#clock.now().mono - this.#moved >= writeTimeout) {
        this.#fail(new PimError("timeout", "the network takes nothing of what is sent"));
      } else {
        this.#watch();
      }
    });
  }

  /** Ends the connection with err, which take returns when all else was taken: the connection need not say that it has ended. */
  #fail(err: Error): void {
    this.#lost ??= { type: "lost", attempt: this.attempt, err, code: 0 };
    this.#conn.close();
    this.#wake();
  }
}
