import { type PimError } from "../pim/index.js";
import { type ConversationState } from "./conversation.js";
import { holeBelow } from "./holes.js";
import { type Fill, type Filled } from "./io.js";

/** A Fill that waits for its page. */
export interface PendingFill extends Fill {
  readonly c: ConversationState;
}

/** The Fills that wait for an answer, in the order of the inputs. */
export class Fills {
  #waiting: PendingFill[] = [];

  get size(): number {
    return this.#waiting.length;
  }

  add(input: Fill, c: ConversationState): void {
    this.#waiting.push({ ...input, c });
  }

  /** Returns the Fill of c whose turn it is; undefined if c has none. */
  next(c: ConversationState): PendingFill | undefined {
    return this.#waiting.find((f) => f.c === c);
  }

  /** Takes f out and returns its answer. */
  conclude(f: PendingFill, err?: PimError): Filled {
    this.#waiting = this.#waiting.filter((other) => other !== f);
    return { id: f.id, more: holeBelow(f.c.holes, f.before) !== undefined, ...(err && { err }) };
  }

  /**
   * Takes out the Fills of c, in their order, until one has something to fill, and returns their
   * answers.
   */
  settle(c: ConversationState): Filled[] {
    const answers: Filled[] = [];
    for (let f = this.next(c); f !== undefined && !holeBelow(c.holes, f.before); f = this.next(c)) {
      answers.push(this.conclude(f));
    }
    return answers;
  }

  /** Takes out the Fills of c, or all if c is undefined, and returns their answers: err. */
  fail(c: ConversationState | undefined, err: PimError): Filled[] {
    return this.#waiting.filter((f) => c === undefined || f.c === c).map((f) => this.conclude(f, err));
  }

  /**
   * Forgets the Fill id, if it waits, and returns the answers of those that waited only for it.
   */
  drop(id: number): Filled[] {
    const dropped = this.#waiting.find((f) => f.id === id);
    if (dropped === undefined) {
      return [];
    }
    this.#waiting = this.#waiting.filter((f) => f !== dropped);
    return this.settle(dropped.c);
  }
}
