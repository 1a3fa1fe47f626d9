import { checkConversationID, maxPageEntries, noRetention, PimError } from "../pim/index.js";
import { repeatAfter, retryAfterOf } from "./backoff.js";
import { contentsOf } from "./catchup.js";
import { type Duration } from "./duration.js";
import { type Effects } from "./effects.js";
import { type PIMPullResp } from "./frames.js";
import { type Ask, type AskMembers, type AskReceipts, type Pulled } from "./io.js";
import { type Request, Requests } from "./requests.js";
import { type Page } from "./types.js";

const maxAsks = 8; // under way at once
export const maxWaiting = 1024; // Asks that are not answered, those under way included; as many Fills

/** An input that asks the server for something. */
type Question = Ask | AskReceipts | AskMembers;

/** A Question that is not answered yet. */
interface PendingAsk extends Request {
  // its number is 0 in the queue
  readonly input: Question;
  page: Page; // what has come of it, if it is an Ask
  failures: number;
  retryAt: Duration; // in the queue: it is not transmitted before
}

/** The app's pulls, and what it asks about receipts and members. They go on over reconnects. */
export class Asks {
  readonly active = new Requests<PendingAsk>();
  readonly #byID = new Map<number, PendingAsk>(); // all of them
  #queue: PendingAsk[] = [];

  readonly #fx: Effects;
  readonly #timeout: Duration;
  readonly #random: () => number;

  /** timeout is Config.requestTimeout. */
  constructor(fx: Effects, timeout: Duration, random: () => number) {
    this.#fx = fx;
    this.#timeout = timeout;
    this.#random = random;
  }

  /** Queues input. It throws a PimError if that is refused. */
  add(input: Question): void {
    if (this.#byID.size >= maxWaiting) {
      throw new PimError("overloaded", `${this.#byID.size} requests wait for an answer`);
    }
    checkConversationID(input.conversation);
    const ask: PendingAsk = { input, number: 0, answerBy: 0, page: newPage(), failures: 0, retryAt: 0 };
    this.#byID.set(input.id, ask);
    this.#queue.push(ask);
  }

  /** Forgets the Ask id: nobody waits for its answer any more. */
  drop(id: number): void {
    const ask = this.#byID.get(id);
    if (ask !== undefined) {
      this.#byID.delete(id);
      this.active.delete(ask);
      this.#queue = this.#queue.filter((other) => other !== ask);
    }
  }

  /** Transmits Asks from the queue while fewer than maxAsks are under way. */
  start(): void {
    const { now } = this.#fx;
    const kept: PendingAsk[] = [];
    for (const ask of this.#queue) {
      if (this.active.size >= maxAsks || now.mono < ask.retryAt) {
        kept.push(ask);
        continue;
      }
      ask.number = this.#fx.request();
      ask.answerBy = now.mono + this.#timeout;
      ask.page = newPage();
      ask.retryAt = 0;
      this.active.add(ask);
      this.#write(ask.number, ask.input);
    }
    this.#queue = kept;
  }

  /** Transmits input as the request with that number. */
  #write(requestId: number, input: Question): void {
    const { conversation } = input;
    switch (input.type) {
      case "ask": {
        const { from, to, newestFirst, changes } = input;
        const limit = Math.min(Math.max(input.limit, 0), maxPageEntries);
        this.#fx.write({
          type: "PIMPullReq",
          body: { requestId, conversation, from, to, limit, newestFirst, changes },
        });
        break;
      }
      case "askReceipts": {
        const { from, to, readers, after } = input;
        this.#fx.write({ type: "PIMReceiptReq", body: { requestId, conversation, from, to, readers, after } });
        break;
      }
      case "askMembers":
        this.#fx.write({ type: "PIMMembersReq", body: { requestId, conversation, after: input.after } });
    }
  }

  /** Takes one frame of a page, if an Ask has asked for it. */
  answered(m: PIMPullResp): void {
    const ask = this.active.get(m.requestId);
    if (ask?.input.type !== "ask") {
      return;
    }
    ask.answerBy = this.#fx.now.mono + this.#timeout;
    const { page } = ask;
    const contents = contentsOf(ask.input.conversation, m);
    if (contents instanceof PimError) {
      this.hand(ask, {
        id: ask.input.id,
        err: new PimError("invalid", "the page cannot be read", { cause: contents }),
      });
      return;
    }
    if (page.entries.length + contents.entries.length > maxPageEntries) {
      this.hand(ask, { id: ask.input.id, err: new PimError("invalid", "the page has too many entries") });
      return;
    }
    page.entries.push(...contents.entries);
    page.folds.push(...contents.folds);
    page.newest = m.newest;
    if (m.done) {
      // of the frames of a page, those with erasures say nothing else
      page.retention = { age: m.retainMs, before: m.retainBeforeMs, from: m.retainFromMs };
      page.serverRetain = m.serverRetainMs;
    }
    if (m.from <= m.to) {
      const none = page.from > page.to;
      page.from = none ? m.from : Math.min(page.from, m.from);
      page.to = none ? m.to : Math.max(page.to, m.to);
    }
    if (m.done) {
      this.hand(ask, { id: ask.input.id, page });
    }
  }

  /** Hands over the answer to an Ask. */
  hand(ask: PendingAsk, answer: Pulled): void {
    this.#byID.delete(ask.input.id);
    this.active.delete(ask);
    this.#fx.out.pulled.push(answer);
  }

  /**
   * Takes the server's refusal of the request with the given number, if it is an Ask's.
   */
  failed(number: number, err: PimError, retryable: boolean): void {
    const ask = this.active.get(number);
    if (ask === undefined) {
      return;
    }
    if (!retryable) {
      this.hand(ask, { id: ask.input.id, err });
      return;
    }
    ask.failures++;
    this.#requeue(ask);
    const wait = Math.max(retryAfterOf(err), repeatAfter(ask.failures, this.#random));
    ask.retryAt = this.#fx.now.mono + wait;
  }

  #requeue(ask: PendingAsk): void {
    this.active.delete(ask);
    ask.number = 0;
    ask.answerBy = 0;
    ask.page = newPage();
    this.#queue.push(ask);
  }

  /** Puts those under way back into the queue: the connection is gone. */
  suspend(): void {
    for (const ask of this.active.ordered()) {
      this.#requeue(ask);
    }
  }

  /**
   * Makes every Ask in the queue due at once: on a new connection earlier refusals say nothing any more.
   */
  resume(): void {
    for (const ask of this.#queue) {
      ask.retryAt = 0;
    }
  }

  /**
   * Answers every Ask with err, because no connection will come. The caller has called suspend, so none
   * is under way.
   */
  fail(err: PimError): void {
    for (const ask of this.#queue) {
      this.hand(ask, { id: ask.input.id, err });
    }
    this.#queue = [];
  }

  /**
   * Puts the Asks whose answers are overdue back into the queue. It returns when each of them was
   * transmitted.
   */
  tick(): Duration[] {
    return this.active.overdue(this.#fx.now.mono).map((ask) => {
      const sentAt = ask.answerBy - this.#timeout;
      this.#requeue(ask);
      return sentAt;
    });
  }

  /** Returns when something is due. While the shell does not read, no answer is overdue. */
  deadline(paused: boolean): Duration {
    let at = this.active.deadline(paused);
    for (const ask of this.#queue) {
      if (ask.retryAt > this.#fx.now.mono) {
        // else it only waits for its turn
        at = Math.min(at, ask.retryAt);
      }
    }
    return at;
  }
}

/** Returns a page that settles nothing. */
function newPage(): Page {
  return { entries: [], folds: [], from: 1, to: 0, newest: 0, retention: noRetention, serverRetain: 0 };
}
