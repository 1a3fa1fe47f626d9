import { byteLength } from "../pim/text.js";
import { Check } from "./check.js";
import { type ConversationState, isOwn } from "./conversation.js";
import { type Effects } from "./effects.js";
import { type Welcome } from "./frames.js";
import { maxPulls } from "./pulls.js";

/** Bounds the identity of a store. */
const maxStoreName = 64;

/** The conversations that are in doubt. */
export class Doubts {
  count = 0; // conversations in doubt
  unsure = false; // one could not be compared on this connection
  front = false; // a front of one in doubt was told: sync again when none is
  list = false; // a full sync is due only because the server's store may have gone back
  #waiting: ConversationState[] = []; // those that wait for their turn
  #active = 0; // those that are being compared: maxPulls at most

  readonly #fx: Effects;

  constructor(fx: Effects) {
    this.#fx = fx;
  }

  /** Looks at a Welcome for signs that the server's store went back. */
  meet(w: Welcome): void {
    const { meta } = this.#fx;
    const store = byteLength(w.store) > maxStoreName ? "" : w.store;
    const other = store !== "" && meta.store !== "" && store !== meta.store;
    const heard = w.ackSerial;
    if (w.storageBehind) {
      this.list = false;
    }
    if (other || heard < meta.heard) {
      this.list ||= !meta.fullSync;
      meta.doubt = true;
      meta.fullSync = true;
    }
    meta.store = store || meta.store;
    meta.heard = heard;
    this.#fx.metaDirty = true;
  }

  /** Forgets how far the comparisons are. The caller adds each of them again. */
  opened(): void {
    this.#waiting = [];
    this.#active = 0;
    this.unsure = false;
    this.front = false;
  }

  /**
   * Queues c for a comparison of page seqs at a time. If one is under way, it begins anew: what it has
   * learned may be of a store that is gone.
   */
  add(c: ConversationState, page: number): void {
    if (c.doubt === undefined) {
      this.count++;
    }
    c.doubt = new Check(isOwn(c), c.known, page);
    this.#waiting.push(c);
  }

  /**
   * Returns the comparison whose turn it is and its conversation; undefined if there is none. The own
   * log is the last.
   */
  next(): { c: ConversationState; check: Check } | undefined {
    if (this.#active >= maxPulls) {
      return undefined;
    }
    const c = this.#waiting.find((w) => !isOwn(w) || this.count === 1);
    if (c?.doubt === undefined) {
      return undefined;
    }
    this.#waiting = this.#waiting.filter((other) => other !== c);
    this.#active++;
    c.doubt.active = true;
    return { c, check: c.doubt };
  }

  /** Drops c's doubt, whatever came of it. */
  trust(c: ConversationState): void {
    if (c.doubt === undefined) {
      return;
    }
    if (c.doubt.active) {
      this.#active--;
    }
    c.doubt = undefined;
    this.count--;
    this.#waiting = this.#waiting.filter((other) => other !== c);
  }

  /** Reports whether no conversation is in doubt any more, and all could be compared. */
  settled(): boolean {
    return this.count === 0 && !this.unsure;
  }
}
