import { ackable, type ConversationState } from "./conversation.js";
import { type Duration, millisecond, never } from "./duration.js";
import { type Effects } from "./effects.js";
import { type Front } from "./frames.js";

const ackEvery = 200 * millisecond; // between acknowledgements, at least
const ackFrame = 1000; // conversations and fronts in one frame, at most

/**
 * The positions that the server does not know of yet. They are cumulative and promise nothing, so they
 * are coalesced. A lost acknowledgement only makes the next sync list a conversation more than it must.
 */
export class Acks {
  #dirty: ConversationState[] = [];
  #fronts: Front[] = []; // that are dropped, see toldFronts
  #sentAt: Duration = 0; // the last PIMPushAck
  #due: Duration = 0; // the next one, if something waits

  readonly #fx: Effects;

  /** off: with Config.watch and Config.peek nothing is acknowledged. */
  constructor(
    fx: Effects,
    readonly off: boolean,
  ) {
    this.#fx = fx;
  }

  /** Puts c's position into the next PIMPushAck, if that is news to the server. */
  later(c: ConversationState): void {
    if (c.ackDirty || this.off || c.doubt !== undefined || ackable(c) <= c.acked) {
      return;
    }
    this.#begin();
    c.ackDirty = true;
    this.#dirty.push(c);
  }

  /** Sets when the next PIMPushAck is due, if nothing waits for it yet. */
  #begin(): void {
    if (!this.#waits()) {
      this.#due = this.#fx.now.mono + ackEvery;
    }
  }

  /** Reports whether something waits for the next PIMPushAck. */
  #waits(): boolean {
    return this.#dirty.length + this.#fronts.length > 0;
  }

  /**
   * Puts f into the next PIMPushAck: what is before it is stored no more when the Output of this step
   * is stored.
   */
  front(f: Front): void {
    if (!this.off) {
      this.#begin();
      this.#fronts.push(f);
    }
  }

  /** Forgets the fronts: they were told on another connection, and perhaps of another store. */
  forgetFronts(): void {
    this.#fronts = [];
  }

  /** Takes c's position out of the next PIMPushAck. */
  remove(c: ConversationState): void {
    if (c.ackDirty) {
      c.ackDirty = false;
      this.#dirty = this.#dirty.filter((other) => other !== c);
    }
  }

  /**
   * Transmits what is due: when ackEvery is over, or at once if other frames are transmitted anyway
   * and the last PIMPushAck was ackEvery ago, or if atOnce is set. The serial is stored with the same
   * output, so before it is transmitted.
   */
  send(atOnce: boolean): void {
    const fx = this.#fx;
    const now = fx.now.mono;
    const along = fx.out.frames.length > 0 && now >= this.#sentAt + ackEvery;
    if (!this.#waits() || !(atOnce || now >= this.#due || along)) {
      return;
    }
    while (this.#waits()) {
      const dirty = this.#dirty.splice(0, ackFrame);
      const fronts = this.#fronts.splice(0, ackFrame - dirty.length);
      fx.meta.ackSerial++;
      const acks = dirty.map((c) => {
        c.ackDirty = false;
        c.acked = ackable(c);
        return { conversation: c.id, seq: c.acked };
      });
      fx.write({ type: "PIMPushAck", body: { serial: fx.meta.ackSerial, acks, fronts } });
    }
    this.#sentAt = now;
    fx.metaDirty = true;
  }

  /** Returns when the next PIMPushAck is due. */
  deadline(): Duration {
    return this.#waits() ? this.#due : never;
  }
}
