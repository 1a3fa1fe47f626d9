import { type ConversationID, type PimError } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { repeatAfter, retryAfterOf } from "./backoff.js";
import { type Duration, never } from "./duration.js";
import { type Effects } from "./effects.js";
import { type Front } from "./frames.js";
import { frontsAtOnce } from "./trim.js";

const syncLimit = 1000; // conversations a page; the server cuts it to a frame
/**
 * How many conversations the server tells first at a login if the list is long, those with the newest
 * entries. They are what a person sees first.
 */
const recentFirst = 20;

/**
 * How far the sync list is read: the server's list of the conversations that are behind.
 */
export class SyncList {
  listed = false; // it was read to its end on this connection
  begunAt: Duration = 0;
  request = 0; // under way, 0 if none
  full = false; // every conversation is listed, not only those that are behind

  #after: ConversationID = ""; // the page under way begins after this conversation
  #recent = 0; // how many conversations are to be told before the first page; 0 once something has come
  #again = false; // the list may have changed meanwhile: read it once more
  #frontsTo: ConversationID = ""; // the last conversation of a whole lot of fronts, if the list is read once more because of it
  #failures = 0;
  #answerBy: Duration = 0;
  #retryAt: Duration = 0; // 0: no retry is set

  readonly #fx: Effects;
  readonly #timeout: Duration;
  readonly #random: () => number;
  readonly #tells: boolean;

  /**
   * timeout is Config.requestTimeout; tells: the server is to tell fronts that this device has not
   * acknowledged.
   */
  constructor(fx: Effects, timeout: Duration, random: () => number, tells: boolean) {
    this.#fx = fx;
    this.#timeout = timeout;
    this.#random = random;
    this.#tells = tells;
  }

  /** Forgets what was read on the connection before. */
  opened(): void {
    this.left();
    this.begunAt = 0;
    this.full = false;
    this.#after = "";
    this.#recent = recentFirst;
    this.#again = false;
    this.#frontsTo = "";
    this.#failures = 0;
  }

  /** Notes that the connection, if there was one, is left. */
  left(): void {
    this.request = 0;
    this.#answerBy = 0;
    this.#retryAt = 0;
    this.listed = false;
  }

  /** Reports whether the server owes an answer. */
  waits(): boolean {
    return this.request !== 0;
  }

  /** Gives the answer time until by at least. */
  extend(by: Duration): void {
    this.restart(Math.max(this.#answerBy, by));
  }

  /** Gives the answer time until by. */
  restart(by: Duration): void {
    if (this.waits()) {
      this.#answerBy = by;
    }
  }

  /**
   * Begins to read the list, and reports whether ask is to be called. If the list is being read
   * already, it is read once more afterwards, since the change may be on a page that is past.
   */
  start(): boolean {
    if (this.request !== 0 || this.#retryAt !== 0) {
      this.#again = true;
      return false;
    }
    this.full = this.#fx.meta.fullSync;
    this.#after = "";
    this.#again = false;
    this.begunAt = this.#fx.now.mono;
    return true;
  }

  /** Transmits the request for the next page. */
  ask(): void {
    this.request = this.#fx.request();
    this.#retryAt = 0;
    this.#answerBy = this.#fx.now.mono + this.#timeout;
    this.#fx.write({
      type: "PIMSyncReq",
      body: {
        requestId: this.request,
        full: this.full,
        after: this.#after,
        limit: syncLimit,
        brief: true,
        recent: this.#recent,
        fronts: this.#tells && this.#after === "",
      },
    });
  }

  /**
   * Reports whether request is the page under way, of which conversations have come ahead.
   */
  ahead(request: number): boolean {
    if (request !== this.request || request === 0) {
      return false;
    }
    this.#recent = 0;
    this.#failures = 0;
    this.extend(this.#fx.now.mono + this.#timeout);
    return true;
  }

  /**
   * Reports whether request is the page under way. If it is, no page is under way any more.
   */
  answered(request: number): boolean {
    if (request !== this.request || request === 0) {
      return false;
    }
    this.request = 0;
    this.#recent = 0;
    this.#failures = 0;
    return true;
  }

  /**
   * Goes on after a page, and reports whether ask is to be called. The next page begins after the
   * conversation next, if that is news.
   */
  page(next: ConversationID): boolean {
    if (compareText(next, this.#after) > 0) {
      this.#after = next;
      return true;
    }
    if (this.#again) {
      return this.start();
    }
    this.listed = true;
    return false;
  }

  /**
   * Takes the fronts of a page. If there may be more, the list is read once more, by when these are
   * acknowledged. A server that tells the same ones again does not get them acknowledged; then the rest
   * waits for the next sync.
   */
  fronts(told: readonly Front[]): void {
    if (this.#after !== "") {
      return;
    }
    const first = told[0]?.conversation ?? "";
    if (told.length >= frontsAtOnce && compareText(first, this.#frontsTo) > 0 && !this.full) {
      this.#frontsTo = told.at(-1)?.conversation ?? "";
      this.#again = true;
    } else {
      this.#frontsTo = "";
    }
  }

  /** Takes the server's refusal of the page under way, which is asked for again. */
  failed(err: PimError): void {
    this.request = 0;
    this.#failures++;
    this.#retryAt = this.#fx.now.mono + Math.max(retryAfterOf(err), repeatAfter(this.#failures, this.#random));
  }

  /** Reports whether a page that was refused is to be asked for again now. */
  due(): boolean {
    return this.#retryAt !== 0 && this.#fx.now.mono >= this.#retryAt;
  }

  /**
   * Returns when the page under way was asked for, if no answer to it has come in time; else undefined.
   */
  overdue(): Duration | undefined {
    const late = this.request !== 0 && this.#fx.now.mono >= this.#answerBy;
    return late ? this.#answerBy - this.#timeout : undefined;
  }

  /** Returns when something is due. While the shell does not read, no answer is overdue. */
  deadline(paused: boolean): Duration {
    const at = this.#retryAt === 0 ? never : this.#retryAt;
    return this.request !== 0 && !paused ? Math.min(at, this.#answerBy) : at;
  }
}
