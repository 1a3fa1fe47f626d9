import { type Entry, type Seq } from "../pim/index.js";
import { type ConversationState } from "./conversation.js";
import { type Effects } from "./effects.js";
import { type FromStore, type Read } from "./io.js";

/** How many entries are looked through at once. */
const seekPage = 500;

/** The Reads that are under way. */
export class Fetches {
  #last = 0;
  readonly #active = new Map<number, (entries: readonly Entry[]) => void>();

  readonly #fx: Effects;

  constructor(fx: Effects) {
    this.#fx = fx;
  }

  /** Asks the store for entries of c, and calls take with them. */
  ask(c: ConversationState, range: Omit<Read, "id" | "conversation">, take: (entries: readonly Entry[]) => void): void {
    this.#last++;
    this.#active.set(this.#last, take);
    this.#fx.out.reads.push({ id: this.#last, conversation: c.id, ...range });
  }

  /** Takes the answer to a Read, unless it was forgotten. */
  answered(input: FromStore): void {
    const take = this.#active.get(input.id);
    this.#active.delete(input.id);
    take?.(input.entries);
  }

  /** Forgets the Reads that were made on an earlier connection. */
  forget(): void {
    this.#active.clear();
  }

  /**
   * Looks in the store for a new c.own and c.said (see Effects.reads), if the old ones may be of
   * entries above the position, which has moved back. above says that c.said may be.
   */
  seekOwn(c: ConversationState, above: boolean): void {
    const resaid = above && (c.said.named !== 0 || c.said.all !== 0);
    if (c.own <= c.known && !resaid) {
      return;
    }
    if (c.own > c.known) {
      c.own = 0;
      c.ownUpTo = 0;
      c.ownAll = 0;
    }
    if (resaid) {
      c.said = { named: 0, all: 0 };
    }
    this.#seekOwnBelow(c, c.known);
  }

  #seekOwnBelow(c: ConversationState, upTo: Seq): void {
    if (upTo === 0) {
      return;
    }
    this.ask(c, { upTo, former: false, skip: 0, limit: seekPage }, (entries) => {
      for (const entry of entries) {
        this.#fx.reads(c, entry);
        this.#fx.mentions(c, entry);
      }
      const first = entries[0]?.seq ?? 0;
      if (entries.length === seekPage && first > c.own + 1) {
        // what is named up to c.own counts no more
        this.#seekOwnBelow(c, first - 1);
      }
    });
  }
}
