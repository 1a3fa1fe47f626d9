import { maxPageEntries, type Seq } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { type FrameInit } from "../wire/index.js";
import { repeatAfter } from "./backoff.js";
import { gapEnd } from "./catchup.js";
import { type ConversationState, gapPatience, unknownSeq } from "./conversation.js";
import { type Duration } from "./duration.js";
import { type Effects } from "./effects.js";
import { type Engine } from "./engine.js";
import { type PendingFill } from "./fills.js";
import { eagerHole, holeBelow } from "./holes.js";
import { type Request, Requests } from "./requests.js";

export const maxPulls = 8; // under way at once, of the engine's own
export const watchPage = 500; // entries of a pull with Config.watch

/**
 * What the next pull of a conversation is for.
 *
 * - upward: the entries after the position, up to the end of the gap
 * - leap: the newest page of a gap that is jumped
 * - refill: the top of a hole
 * - compare: the server's entries in a window of the store's, see Check
 * - refold: the folds that may lack something, upwards
 */
export type Job = "upward" | "leap" | "refill" | "compare" | "refold";

/** Ranks of pulls: a lower rank goes first. */
export type Rank = 0 | 1 | 2 | 3;
export const rankOpened: Rank = 0; // the conversation that a person looks at, or has asked to Fill
export const rankOwn: Rank = 1; // the user's own log
export const rankNew: Rank = 2; // new entries
export const rankHole: Rank = 3; // holes, which lie behind the new entries

/** A pull that is under way. */
export interface Pull extends Request {
  readonly c: ConversationState;
  readonly job: Job;
  readonly fill: PendingFill | undefined; // the Fill that it serves
  readonly from: Seq; // c.known+1 when the pull was made
  readonly seen: Seq; // c.newest when the pull was made
  settled: boolean; // refill: some of the hole was filled; refold: some folds are complete
}

/** The engine's own pulls, at most one for a conversation. */
export class Pulls {
  readonly active = new Requests<Pull>();

  // By rank: those that have pulling set and wait for their turn.
  readonly #queues: [ConversationState[], ConversationState[], ConversationState[], ConversationState[]] = [[], [], [], []];
  #gaps: ConversationState[] = []; // those whose gapBy may be set
  #waiting: ConversationState[] = []; // those whose retryAt is set

  readonly #fx: Effects;
  readonly #timeout: Duration;
  readonly #random: () => number;

  /** timeout is Config.requestTimeout. */
  constructor(fx: Effects, timeout: Duration, random: () => number) {
    this.#fx = fx;
    this.#timeout = timeout;
    this.#random = random;
  }

  /** Queues a pull of c. None is queued or under way. */
  want(c: ConversationState, rank: Rank): void {
    c.pulling = true;
    c.gapBy = 0;
    this.#queues[rank].push(c);
  }

  /** Moves c to the end of another queue, if it is in one. */
  move(c: ConversationState, rank: Rank): void {
    if (this.#drop(c)) {
      this.#queues[rank].push(c);
    }
  }

  /** Takes c out of its queue and reports whether it was in one. */
  #drop(c: ConversationState): boolean {
    for (const queue of this.#queues) {
      const i = queue.indexOf(c);
      if (i >= 0) {
        queue.splice(i, 1);
        return true;
      }
    }
    return false;
  }

  /** Returns the conversation whose turn it is; undefined if none waits. */
  pop(): ConversationState | undefined {
    return this.#queues.find((queue) => queue.length > 0)?.shift();
  }

  /** Puts the conversations with the most recent entries first. */
  sort(): void {
    for (const queue of this.#queues) {
      queue.sort((a, b) => b.recent - a.recent || compareText(a.id, b.id));
    }
  }

  /**
   * Transmits the pull of c, whose turn has come, of up to page entries, or as many as a Fill wants, but
   * at most limit. fill is the Fill that it serves, if any.
   */
  start(c: ConversationState, job: Job, fill: PendingFill | undefined, page: number, limit: number): void {
    const pull: Pull = {
      number: this.#fx.request(),
      answerBy: this.#fx.now.mono + this.#timeout,
      c,
      job,
      fill,
      from: c.known + 1,
      seen: c.newest,
      settled: false,
    };
    this.active.add(pull);
    this.#fx.write(requestOf(pull, page, limit));
  }

  /**
   * Returns the pull whose answer a frame belongs to, and gives what is left of the answer its time
   * again; undefined if it is none of these pulls.
   */
  answered(number: number): Pull | undefined {
    const pull = this.active.get(number);
    if (pull !== undefined) {
      pull.answerBy = this.#fx.now.mono + this.#timeout;
    }
    return pull;
  }

  /** Forgets a pull that is under way. */
  end(pull: Pull): void {
    this.active.delete(pull);
    pull.c.pulling = false;
  }

  /** Notes a failed pull of c, which is tried again after wait; 0: after a backoff. */
  retry(c: ConversationState, wait: Duration): void {
    c.failures++;
    if (c.retryAt === 0) {
      this.#waiting.push(c);
    }
    c.retryAt = this.#fx.now.mono + (wait || repeatAfter(c.failures, this.#random));
  }

  /** Makes c wait until pushes have closed its gap, or gapPatience is over. */
  awaitPushes(c: ConversationState): void {
    c.gapBy = this.#fx.now.mono + gapPatience;
    this.#gaps.push(c);
  }

  /** Drops the pull of c, whether it is queued, under way, or to be tried again. */
  forget(c: ConversationState): void {
    this.abandon(c);
    this.#drop(c);
    this.#waiting = this.#waiting.filter((other) => other !== c);
    c.pulling = false;
    c.again = false;
    c.retryAt = 0;
  }

  /** Forgets the pull of c that is under way, if there is one. */
  abandon(c: ConversationState): void {
    const pull = this.active.ordered().find((p) => p.c === c);
    if (pull !== undefined) {
      this.end(pull);
    }
  }

  /** Forgets all of them: the connection, if there was one, is gone. */
  left(): void {
    for (const { c } of this.active.ordered()) {
      c.pulling = false;
      c.again = false;
    }
    this.active.clear();
    for (const queue of this.#queues) {
      for (const c of queue.splice(0)) {
        c.pulling = false;
      }
    }
    for (const c of this.#gaps.splice(0)) {
      c.gapBy = 0;
    }
    for (const c of this.#waiting.splice(0)) {
      c.retryAt = 0;
    }
  }

  /**
   * Returns the conversations whose gaps pushes have not closed in time, and takes them out of gaps.
   */
  openGaps(): ConversationState[] {
    const now = this.#fx.now.mono;
    const due = [...new Set(this.#gaps.filter((c) => c.gapBy !== 0 && now >= c.gapBy))];
    this.#gaps = this.#gaps.filter((c) => c.gapBy !== 0 && now < c.gapBy);
    for (const c of due) {
      c.gapBy = 0;
    }
    return due;
  }

  /** Returns the conversations whose pulls are to be tried again now. */
  retries(): ConversationState[] {
    const now = this.#fx.now.mono;
    const due = this.#waiting.filter((c) => now >= c.retryAt);
    this.#waiting = this.#waiting.filter((c) => now < c.retryAt);
    for (const c of due) {
      c.retryAt = 0;
    }
    return due;
  }

  /** Returns when something is due. While the shell does not read, no answer is overdue. */
  deadline(paused: boolean): Duration {
    let at = this.active.deadline(paused);
    for (const c of this.#gaps) {
      if (c.gapBy !== 0) {
        at = Math.min(at, c.gapBy);
      }
    }
    for (const c of this.#waiting) {
      at = Math.min(at, c.retryAt);
    }
    return at;
  }
}

/** Returns how many entries are pulled at once. */
export function most(e: Engine): number {
  return Math.min(e.cfg.page, e.limits.page);
}

/**
 * Returns the frame that asks for up to page entries, or as many as a Fill wants, but at most limit. A
 * comparison's answer begins anew with it.
 */
function requestOf(p: Pull, page: number, limit: number): FrameInit {
  const { c } = p;
  return {
    type: "PIMPullReq",
    body: { requestId: p.number, conversation: c.id, from: p.from, limit: page, ...rangeOf(p, limit) },
  };
}

/** Returns what the frame of p says of the range that is asked for. */
function rangeOf(p: Pull, limit: number): { from?: Seq; to?: Seq; limit?: number; newestFirst?: true; changes?: true } {
  const { c } = p;
  switch (p.job) {
    case "refill": {
      const hole = p.fill === undefined ? eagerHole(c.holes) : holeBelow(c.holes, p.fill.before);
      const wanted = p.fill !== undefined && p.fill.limit > 0 ? Math.min(p.fill.limit, maxPageEntries, limit) : 0;
      return { from: hole?.from ?? 0, to: hole?.to ?? 0, newestFirst: true, ...(wanted > 0 && { limit: wanted }) };
    }
    case "compare": {
      const asked = c.doubt?.ask();
      return { from: asked?.first ?? 0, to: asked?.last ?? 0, newestFirst: true };
    }
    case "refold":
      return { from: c.fresh + 1, to: c.stale, changes: true, limit };
    case "leap":
      return { newestFirst: true, ...belowAhead(c) };
    case "upward":
      return belowAhead(c);
  }
}

/** Returns up to where the gap above c's position is asked for, if its end is known. */
function belowAhead(c: ConversationState): { to?: Seq } {
  const end = gapEnd(c);
  return c.ahead.length > 0 && end !== unknownSeq ? { to: end } : {};
}
