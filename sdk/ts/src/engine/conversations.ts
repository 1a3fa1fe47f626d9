import { type ConversationID, type Entry, type Seq } from "../pim/index.js";
import { type ConversationState, newConversation } from "./conversation.js";
import { eagerHole, type Holes, soundHoles } from "./holes.js";
import { type Conversation, type Erasure } from "./types.js";

const maxAhead = 512; // entries of a conversation that wait for a gap to close
const maxAheadBytes = 4 << 20; // their payloads, of all conversations

/**
 * All conversations that the device knows of, and the counts of those that are not complete. Only
 * these methods change target, holes, stale and ahead of a conversation.
 */
export class Conversations {
  readonly byID = new Map<ConversationID, ConversationState>();

  #behind = 0; // conversations with a target
  #holed = 0; // conversations with a hole that is not lazy
  #stale = 0; // conversations whose folds may lack something
  #aheadBytes = 0; // payloads in ahead, of all conversations

  readonly #watch: boolean;

  /** With watch only what Follow names is followed (Config.watch). */
  constructor(watch: boolean) {
    this.#watch = watch;
  }

  /** Goes on with what a store has of a conversation. */
  restore(row: Conversation): void {
    const c = newConversation(row.id, !this.#watch);
    c.known = row.known;
    c.newest = Math.max(row.known, row.newest);
    c.counted = row.newest;
    c.count = row.count;
    c.own = row.own;
    c.ownUpTo = row.ownCount;
    c.ownAll = row.ownAll;
    c.said = row.mentioned;
    c.left = row.left;
    c.folded = row.folded;
    c.front = row.front;
    c.lost = row.lost;
    this.byID.set(row.id, c);
    this.setHoles(c, soundHoles(row.holes, row.known));
    this.setStale(c, Math.min(row.stale, row.known));
  }

  /** Goes on with what a store has of the erasures of a conversation. */
  restoreErasure(x: Erasure): void {
    this.add(x.conversation).erased.set(x.by, x.upTo);
  }

  /** Returns the state of id, which it creates; undefined if id is not followed. */
  get(id: ConversationID): ConversationState | undefined {
    if (!this.byID.has(id) && (this.#watch || id === "")) {
      return undefined;
    }
    const c = this.add(id);
    return c.followed ? c : undefined;
  }

  /** Returns the state of id, which it creates, followed or not. */
  add(id: ConversationID): ConversationState {
    let c = this.byID.get(id);
    if (c === undefined) {
      c = newConversation(id, !this.#watch);
      this.byID.set(id, c);
    }
    return c;
  }

  /**
   * Reports whether no conversation has a target, a hole that is filled by itself, or folds that may
   * lack something.
   */
  complete(): boolean {
    return this.#behind === 0 && this.#holed === 0 && this.#stale === 0;
  }

  /** Sets where the catching up of c ends; 0: nowhere. */
  setTarget(c: ConversationState, target: Seq): void {
    this.#behind += Number(target !== 0) - Number(c.target !== 0);
    c.target = target;
  }

  /** Ends the catching up of c if its position has reached the target. */
  arrived(c: ConversationState): void {
    if (c.target !== 0 && c.known >= c.target) {
      this.setTarget(c, 0);
    }
  }

  /** Changes c's holes. */
  setHoles(c: ConversationState, holes: Holes): void {
    this.#holed += Number(eagerHole(holes) !== undefined) - Number(eagerHole(c.holes) !== undefined);
    c.holes = holes;
  }

  /** Notes that the folds of c up to the seq to may lack something; 0: none does. */
  setStale(c: ConversationState, to: Seq): void {
    this.#stale += Number(to !== 0) - Number(c.stale !== 0);
    c.stale = to;
    c.fresh = 0;
  }

  /** Keeps entry until the gap before it is closed, if there is room. */
  keepAhead(c: ConversationState, entry: Entry): void {
    const bytes = entry.payload.length;
    if (c.ahead.length >= maxAhead || this.#aheadBytes + bytes > maxAheadBytes) {
      return;
    }
    const at = c.ahead.findLastIndex((a) => a.seq <= entry.seq);
    if (c.ahead[at]?.seq === entry.seq) {
      return;
    }
    c.ahead.splice(at + 1, 0, entry);
    this.#aheadBytes += bytes;
  }

  /** Takes out the entry that was kept ahead and is next now; undefined if there is none. */
  takeAhead(c: ConversationState): Entry | undefined {
    for (let next = c.ahead[0]; next !== undefined && next.seq <= c.known + 1; next = c.ahead[0]) {
      c.ahead.shift();
      this.#aheadBytes -= next.payload.length;
      if (next.seq === c.known + 1) {
        return next;
      }
    }
    return undefined;
  }

  /** Forgets those entries ahead of a gap that lie below the seq front. */
  trimAhead(c: ConversationState, front: Seq): void {
    const kept = c.ahead.filter((e) => e.seq >= front);
    this.#aheadBytes -= payloads(c.ahead) - payloads(kept);
    c.ahead = kept;
    if (kept.length === 0) {
      c.gapBy = 0;
    }
  }

  /** Forgets the entries of c that wait for a gap to close. */
  clearAhead(c: ConversationState): void {
    this.#aheadBytes -= payloads(c.ahead);
    c.ahead = [];
    c.gapBy = 0;
  }
}

function payloads(entries: readonly Entry[]): number {
  return entries.reduce((sum, e) => sum + e.payload.length, 0);
}
