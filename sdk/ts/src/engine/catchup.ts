import { type ConversationID, type Entry, type Fold, PimError, type Seq } from "../pim/index.js";
import { entryOf, readFold } from "../wire/index.js";
import { retryAfterOf } from "./backoff.js";
import { unreadableAgain } from "./confirm.js";
import {
  aim,
  closeGap,
  type ConversationState,
  deliver,
  isBehind,
  isOwn,
  newestSeq,
  settle,
  skips,
  unknownSeq,
} from "./conversation.js";
import { type Engine, refusalOf } from "./engine.js";
import { erase } from "./erase.js";
import { merge, refolded } from "./folds.js";
import { caughtUp, unforetell } from "./foretold.js";
import { dropAhead } from "./former.js";
import { type PIMErrorBody, type PIMPullResp } from "./frames.js";
import { fillHole, jumps, jumpTo, setHoles, settleFills } from "./gaps.js";
import { goOn, incomparable, suspect } from "./goback.js";
import { eagerHole, lazyHoles } from "./holes.js";
import { type Job, maxPulls, most, type Pull, type Rank, rankHole, rankNew, rankOpened, rankOwn } from "./pulls.js";
import { isRead } from "./reading.js";
import { orRefusal } from "./refusal.js";
import { stands } from "./sync.js";
import { trimmed } from "./trim.js";
import { giveUpExpected } from "./wishes.js";

/** Returns what the next pull of c is for; undefined if it needs none. */
export function jobOf(e: Engine, c: ConversationState): Job | undefined {
  if (c.doubt !== undefined) {
    return c.doubt.asks() ? "compare" : undefined;
  }
  if (isBehind(c)) {
    return !e.cfg.watch && jumps(c, gapEnd(c), e.cfg.page) ? "leap" : "upward";
  }
  if (e.fills.next(c) !== undefined) {
    return "refill";
  }
  if (c.stale !== 0) {
    return "refold";
  }
  return eagerHole(c.holes) === undefined ? undefined : "refill";
}

/** Returns the last seq of the gap above the position. */
export function gapEnd(c: ConversationState): Seq {
  if (c.target === unknownSeq) {
    return unknownSeq;
  }
  const next = c.ahead[0];
  return next === undefined ? c.newest : next.seq - 1;
}

/** Returns the rank of the next pull of c. */
export function rankOf(e: Engine, c: ConversationState): Rank {
  if (c.id === e.opened || isRead(e, c.id) || e.fills.next(c) !== undefined) {
    return rankOpened;
  }
  if (isOwn(c)) {
    return rankOwn;
  }
  return isBehind(c) ? rankNew : rankHole;
}

/** Queues a pull of c, unless one is queued, under way, or waits to be tried again. */
export function wantPull(e: Engine, c: ConversationState): void {
  if (c.pulling || c.retryAt !== 0 || e.link.phase !== "open" || skips(e, c)) {
    return;
  }
  e.pulls.want(c, rankOf(e, c));
}

/** Queues a pull of c, if it needs one. */
function pullOn(e: Engine, c: ConversationState): void {
  if (jobOf(e, c) !== undefined) {
    wantPull(e, c);
  }
}

/** Transmits the pulls whose turn has come. */
export function startPulls(e: Engine): void {
  while (e.pulls.active.size < maxPulls) {
    const c = e.pulls.pop();
    if (c === undefined) {
      return;
    }
    const job = jobOf(e, c);
    if (job === undefined) {
      // pushes were faster
      c.pulling = false;
      continue;
    }
    e.pulls.start(c, job, job === "refill" ? e.fills.next(c) : undefined, most(e), e.limits.page);
  }
}

/** Takes one frame of a page. */
export function pulled(e: Engine, m: PIMPullResp): void {
  const p = e.pulls.answered(m.requestId);
  if (p === undefined) {
    e.asks.answered(m);
    return;
  }
  const { c } = p;
  const page = contentsOf(c.id, m);
  if (page instanceof PimError) {
    e.pulls.end(p);
    e.pulls.retry(c, 0);
    return;
  }
  const from = m.from;
  const to = m.to;
  const newest = newestSeq(m.newest);
  if (p.job === "compare") {
    const check = c.doubt;
    check?.take(page.entries, from, to, newest, m.front);
    if (m.done) {
      e.pulls.end(p);
      if (check !== undefined) {
        // While a full sync is due, the server's store may be another.
        goOn(e, c, check, check.answered(!e.fx.meta.fullSync));
      }
    }
    return;
  }
  for (const x of m.erasures) {
    erase(e, c, { by: x.by, upTo: x.upto });
  }
  merge(e, c, page.folds);
  if (p.job === "refill") {
    p.settled = fillHole(e, c, page.entries, from, to) || p.settled;
  } else if (p.job === "refold") {
    p.settled = refolded(e, c, from, to) || p.settled;
  } else {
    advance(e, p, page.entries, from, to);
  }
  stands(e, c, m.standing, p.from === 1);
  trimmed(e, c, m.front, newest);
  if (newest > c.newest) {
    c.newest = newest;
    e.fx.touch(c);
  }
  if (isOwn(c) && newest > c.counted) {
    // stored, so that the next process knows how far it is behind
    c.counted = newest;
    e.fx.touch(c);
  }
  if (c.target === unknownSeq) {
    e.conversations.setTarget(c, Math.max(newest, 1));
    e.conversations.arrived(c);
  }
  if (m.done) {
    e.pulls.end(p);
    afterPull(e, c, p, newest);
  }
}

/**
 * Moves the position over the seqs from..to, which a frame settles. Only the first frame of a leap may
 * leave a gap below it.
 */
function advance(e: Engine, p: Pull, entries: readonly Entry[], from: Seq, to: Seq): void {
  const { c } = p;
  if (from > to) {
    return;
  }
  if (p.job === "leap" && from > c.known + 1) {
    jumpTo(e, c, from);
  }
  if (from > c.known + 1) {
    return;
  }
  for (const entry of entries) {
    if (entry.seq > c.known) {
      deliver(e, c, entry);
    }
  }
  settle(e, c, to);
  if (isOwn(c)) {
    caughtUp(e);
  }
  closeGap(e, c);
}

/** What a frame of a page has, ascending within what it settles. */
interface Contents {
  entries: Entry[];
  folds: Fold[];
}

/** Returns what m has, or why it cannot be read. */
export function contentsOf(id: ConversationID, m: PIMPullResp): Contents | PimError {
  return orRefusal(() => {
    const entries = m.entries.map((w) => entryOf(id, w));
    const folds = m.folds.map(readFold);
    const seqs = entries.map((entry) => entry.seq);
    const targets = folds.map((f) => f.target);
    checkOrder(id, m, seqs);
    checkOrder(id, m, targets);
    return { entries, folds };
  });
}

/** Throws a PimError if seqs are not within what m settles, or do not ascend. */
function checkOrder(id: ConversationID, m: PIMPullResp, seqs: readonly Seq[]): void {
  let least = m.from;
  for (const seq of seqs) {
    if (seq < least || seq > m.to) {
      throw new PimError("invalid", `pull of ${id}: seq ${seq} is not in ${least}..${m.to}, or not in order`);
    }
    least = seq + 1;
  }
}

/** Goes on when an answer is complete: with the next page, if there is more. */
function afterPull(e: Engine, c: ConversationState, p: Pull, newest: Seq): void {
  if (!c.checked && (newest < p.from - 1 || (isOwn(c) && newest < p.seen))) {
    suspect(e, c); // the log was longer before
    return;
  }
  if (p.fill !== undefined && p.settled && e.fills.next(c) === p.fill) {
    e.fx.out.filled.push(e.fills.conclude(p.fill));
  }
  if (c.again) {
    c.again = false;
    aim(e, c, unknownSeq);
  }
  if (isOwn(c)) {
    giveUpExpected(e);
  }
  const fills = p.job === "refill" || p.job === "refold";
  if (fills && !p.settled) {
    e.pulls.retry(c, 0);
  } else if (fills || c.known >= p.from || c.newest > p.seen || c.target === unknownSeq) {
    c.failures = 0;
    settleFills(e, c);
    pullOn(e, c);
  } else if (newest <= c.known) {
    // The device has all that this user may read, whatever was announced.
    dropAhead(e, c);
    giveUp(e, c);
  } else {
    e.pulls.retry(c, 0);
  }
}

/** Assumes that there is nothing to be pulled above c.known. */
function giveUp(e: Engine, c: ConversationState): void {
  if (isOwn(c)) {
    // what the list has told is not there
    unforetell(e);
  }
  e.conversations.clearAhead(c);
  const above = c.counted > c.known;
  c.newest = c.known;
  c.counted = c.known;
  c.last = undefined;
  c.lastCut = false;
  c.failures = 0;
  e.fetches.seekOwn(c, above);
  e.conversations.setTarget(c, 0);
  e.fx.touch(c);
  pullOn(e, c); // a hole below it
}

/** Takes the server's refusal of a pull. */
export function pullFailed(e: Engine, m: PIMErrorBody): void {
  const p = e.pulls.active.get(m.requestId);
  if (p === undefined) {
    return;
  }
  const { c } = p;
  e.pulls.end(p);
  const err = refusalOf(m);
  if (m.retryable) {
    e.pulls.retry(c, retryAfterOf(err));
    return;
  }
  if (p.job === "compare") {
    if (c.doubt !== undefined) {
      incomparable(e, c, c.doubt, err);
    }
    return;
  }
  if (p.job === "refold") {
    // the folds are shown as they are
    e.conversations.setStale(c, 0);
    e.fx.touch(c);
    pullOn(e, c);
    return;
  }
  if (e.cfg.watch) {
    c.followed = false;
    e.fx.emit({ type: "refused", conversation: c.id, err });
  }
  e.fx.out.filled.push(...e.fills.fail(c, err));
  if (p.job === "refill") {
    hideHoles(e, c, err);
  }
  giveUp(e, c);
}

/** Does what is left to do with the holes of c, because the server refuses what is in one: err. */
function hideHoles(e: Engine, c: ConversationState, err: PimError): void {
  if (err.kind === "not_member" || err.kind === "forbidden" || err.kind === "not_found") {
    setHoles(e, c, []); // entries that the user may not read are no hole
  } else if (e.cfg.confirms) {
    // the server can't read it at present, and the app must not miss it
    e.pulls.retry(c, unreadableAgain);
  } else {
    // whoever scrolls there asks again
    setHoles(e, c, lazyHoles(c.holes));
  }
}

/**
 * Pulls where a gap did not close by itself, where a pull is to be tried again, and where no answer
 * came in time.
 */
export function tickPulls(e: Engine): void {
  for (const c of e.pulls.openGaps()) {
    if (isBehind(c)) {
      wantPull(e, c);
    }
  }
  for (const c of e.pulls.retries()) {
    pullOn(e, c);
  }
  if (e.paused) {
    return;
  }
  for (const p of e.pulls.active.overdue(e.fx.now.mono)) {
    e.watchdog.unanswered(p.answerBy - e.cfg.requestTimeout, e.fx.now.mono);
    e.pulls.end(p);
    wantPull(e, p.c);
  }
}
