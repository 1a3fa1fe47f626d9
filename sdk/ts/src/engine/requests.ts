import { type Duration, never } from "./duration.js";

/** A request that the server owes an answer to: an ask or a pull. */
export interface Request {
  number: number; // PIMPullReq.request_id
  answerBy: Duration;
}

/** The requests of one kind that are under way. Their numbers grow, so they stay in order. */
export class Requests<R extends Request> {
  readonly #byNumber = new Map<number, R>();

  get size(): number {
    return this.#byNumber.size;
  }

  get(number: number): R | undefined {
    return this.#byNumber.get(number);
  }

  add(r: R): void {
    this.#byNumber.set(r.number, r);
  }

  delete(r: R): void {
    if (this.#byNumber.get(r.number) === r) {
      this.#byNumber.delete(r.number);
    }
  }

  clear(): void {
    this.#byNumber.clear();
  }

  /** Returns the requests in the order of their numbers. */
  ordered(): R[] {
    return [...this.#byNumber.values()];
  }

  /** Reports whether the server owes an answer. */
  waits(): boolean {
    return this.#byNumber.size > 0;
  }

  /** Gives every answer time until by at least. */
  extend(by: Duration): void {
    for (const r of this.#byNumber.values()) {
      r.answerBy = Math.max(r.answerBy, by);
    }
  }

  /** Gives every answer time until by. */
  restart(by: Duration): void {
    for (const r of this.#byNumber.values()) {
      r.answerBy = by;
    }
  }

  /** Returns the requests that were not answered by now, in the order of their numbers. */
  overdue(now: Duration): R[] {
    return this.ordered().filter((r) => now >= r.answerBy);
  }

  /** Returns when the first answer is overdue. While the shell does not read, none is. */
  deadline(paused: boolean): Duration {
    let at = never;
    if (!paused) {
      for (const r of this.#byNumber.values()) {
        at = Math.min(at, r.answerBy);
      }
    }
    return at;
  }
}
