import { checkInteger } from "../pim/arguments.js";
import { type Feed } from "./confirm.js";
import { type Event } from "./events.js";
import { Bell, orAborted, signalOf, type Waiting } from "./wait.js";

/** Says how Client.events hands over. */
export interface EventsOptions extends Waiting {
  /** How many events may wait for the app before the client stops reading from the network; 1,024 if not set. */
  buffer?: number;
}

/** What Client.events returns. */
export class EventQueue implements AsyncIterableIterator<Event> {
  readonly #feed: Feed | undefined;
  readonly #room: number;
  readonly #signal: AbortSignal | undefined;
  readonly #changed: (q: EventQueue) => void;
  #waiting: Event[] = [];
  readonly #bell = new Bell();
  #ended = false;

  /** changed is called when full or ended may be other than before. */
  constructor(o: EventsOptions, feed: Feed | undefined, changed: (q: EventQueue) => void) {
    this.#feed = feed;
    this.#signal = signalOf(o);
    this.#room = checkInteger("buffer", o.buffer === undefined ? 1024 : o.buffer);
    this.#changed = changed;
  }

  /** Reports whether more events wait than there is room for. */
  get full(): boolean {
    return this.#waiting.length > this.#room;
  }

  /** Reports whether nothing is to be added any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Adds what has happened. */
  push(ev: Event): void {
    if (ev.type === "entry" && this.#feed !== undefined) {
      return; // it comes from there
    }
    this.#waiting.push(ev);
    this.#bell.ring();
    this.#changed(this);
  }

  /** Adds no more: what waits is still handed over. */
  end(): void {
    this.#ended = true;
    this.#bell.ring();
    this.#changed(this);
  }

  async next(): Promise<IteratorResult<Event, undefined>> {
    for (;;) {
      this.#signal?.throwIfAborted();
      const value = this.#waiting.shift() ?? (this.#ended ? undefined : this.#feed?.take());
      if (value !== undefined) {
        this.#changed(this);
        return { done: false, value };
      }
      if (this.#ended) {
        return { done: true, value: undefined };
      }
      this.#feed?.wait(() => this.#bell.ring());
      await orAborted(this.#bell.wait(), this.#signal);
    }
  }

  async return(): Promise<IteratorResult<Event, undefined>> {
    this.#waiting = [];
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
