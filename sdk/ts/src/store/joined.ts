import { type Changes } from "./store.js";

/** A Batch that waits to be written. */
interface Waiting {
  batch: Changes;
  done: () => void;
  failed: (err: unknown) => void;
}

/** How many batches are written together at most. */
const most = 256;

/** Has batches written in their order, those that wait at a time together. If that fails, those that wait behind fail too. */
export class Joined {
  readonly #write: (batches: readonly Changes[]) => Promise<void>;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;

  /** write makes the changes of some batches, all of them or, if it throws, none. It is called again when it has returned. */
  constructor(write: (batches: readonly Changes[]) => Promise<void>) {
    this.#write = write;
  }

  /** Has batch written. It throws what write has thrown. */
  add(batch: Changes): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, done, failed });
      this.#writing ??= this.#writeAll();
    });
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    while (this.#writing) {
      await this.#writing;
    }
  }

  async #writeAll(): Promise<void> {
    await Promise.resolve(); // what is added in one turn of the app waits together
    while (this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, most);
      try {
        await this.#write(some.map((w) => w.batch));
        some.forEach((w) => w.done());
      } catch (err) {
        [...some, ...this.#waiting.splice(0)].forEach((w) => w.failed(err));
      }
    }
    this.#writing = undefined;
  }
}
