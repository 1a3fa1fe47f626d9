import { type ConversationID, type Entry, erasureOf, PimError, type Seq } from "../pim/index.js";
import { maxWaiting } from "./ask.js";
import { rankOf, wantPull } from "./catchup.js";
import { type ConversationState, isOwn, unknownSeq } from "./conversation.js";
import { type Engine } from "./engine.js";
import { erase, strip } from "./erase.js";
import { folded } from "./folds.js";
import { cameBack } from "./former.js";
import { type Holes, holesMiss, holesWithout, openHole, sameHoles } from "./holes.js";
import { type Fill } from "./io.js";
import { refuseIfStopped } from "./link.js";
import { rankOpened } from "./pulls.js";
import { readBy } from "./reads.js";
import { type Hole } from "./types.js";

// A long gap is not read upwards: a person wants the newest page. So the position jumps to that page,
// and the gap becomes a hole. A hole is filled by itself, from its top; a very long one is lazy, and is
// filled only when somebody scrolls there. Hole and position are stored with the entries of the page,
// in one transaction.
//
// The user's own log has no holes: commands are obeyed in their order.

export const pageSize = 100; // entries of a pull, and of the longest gap that is read upwards
export const lazyGap = 10_000; // entries of the longest hole that is filled by itself
const maxHoles = 15; // of a conversation; then gaps are read upwards again

/**
 * Changes c's holes, and answers the Fills for which nothing is missing any more. A hole also goes
 * without a page: with what the server has lost, or what retention has removed.
 */
export function setHoles(e: Engine, c: ConversationState, holes: Holes): void {
  e.conversations.setHoles(c, holes);
  e.fx.touch(c);
  e.acks.later(c);
  settleFills(e, c);
}

/**
 * Answers the Fills of c, in their order, until one has something to fill. It is called whenever holes
 * or Fills change, so the next Fill of c always has something: a pull for one that has not would be
 * repeated without end.
 */
export function settleFills(e: Engine, c: ConversationState): void {
  e.fx.out.filled.push(...e.fills.settle(c));
}

/**
 * Moves c's position over a gap to next-1; the gap becomes a hole. What this user has just sent is not
 * left in it.
 */
export function jumpTo(e: Engine, c: ConversationState, next: Seq): void {
  const from = c.known + 1;
  const lazy = next - from > e.cfg.lazyGap && !e.cfg.confirms;
  const hole: Hole = { from, to: next - 1, lazy };
  if (lazy && from > 1) {
    // what it tells of the messages below must not wait for somebody to scroll there
    e.conversations.setStale(c, Math.max(c.stale, from - 1));
  }
  c.known = hole.to;
  let holes: Holes = [...c.holes, hole];
  for (const seq of c.unseen) {
    holes = openHole(holes, seq);
  }
  setHoles(e, c, holes);
}

/** Reports whether a gap up to the seq to is jumped, because it is longer than a page. */
export function jumps(c: ConversationState, to: Seq, page: number): boolean {
  return !isOwn(c) && !c.whole && to !== unknownSeq && to - c.known > page && c.holes.length < maxHoles;
}

/** Takes one frame of a page from a hole, and reports whether it fills anything. */
export function fillHole(e: Engine, c: ConversationState, entries: readonly Entry[], from: Seq, to: Seq): boolean {
  for (const whole of entries) {
    if (!holesMiss(c.holes, whole.seq, whole.seq)) {
      continue;
    }
    const entry = strip(c, whole);
    if (entry.sender === e.fx.meta.user) {
      e.outbox.found(entry);
      cameBack(e, c, entry);
    }
    readBy(e, c, entry);
    e.fx.hand(entry, true);
    folded(e, c, entry);
    const erasure = erasureOf(entry);
    if (erasure !== undefined) {
      erase(e, c, erasure);
    }
  }
  const rest = holesWithout(c.holes, from, to);
  if (from > to || sameHoles(rest, c.holes)) {
    return false;
  }
  setHoles(e, c, rest);
  return true;
}

/** Takes Fill: the app wants older entries. It throws a PimError if that is refused. */
export function takeFill(e: Engine, input: Fill): void {
  refuseIfStopped(e);
  if (e.cfg.watch) {
    throw new PimError("invalid", "with watch there are no holes to fill");
  }
  if (e.fills.size >= maxWaiting) {
    throw new PimError("overloaded", `${e.fills.size} requests for older entries wait for an answer`);
  }
  const c = e.conversations.byID.get(input.conversation);
  if (c === undefined) {
    e.fx.out.filled.push({ id: input.id, more: false });
    return;
  }
  e.fills.add(input, c);
  settleFills(e, c);
  if (e.fills.next(c) !== undefined) {
    e.pulls.move(c, rankOpened);
    wantPull(e, c);
  }
}

/** Takes Open: which conversation a person looks at. */
export function openConversation(e: Engine, id: ConversationID): void {
  e.opened = id;
  const c = e.conversations.byID.get(id);
  if (c?.pulling) {
    e.pulls.move(c, rankOf(e, c));
  }
}
