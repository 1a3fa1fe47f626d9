import { type Call, pack, type Said, unpack } from "./channel.js";
import { type Leader } from "./leader.js";

/** What the tab that leads answers to the calls of the others. A call that comes again is answered, and not done twice. */
export class Answers {
  readonly #leader: Leader;
  readonly #post: (to: string, said: Said) => void;
  readonly #aborts = new Map<string, AbortController>(); // of calls that are being done
  readonly #done = new Map<string, Map<number, Said>>(); // answers to what tabs had done, while they may ask again
  #ended = false;

  /** post says something to a tab. */
  constructor(leader: Leader, post: (to: string, said: Said) => void) {
    this.#leader = leader;
    this.#post = post;
  }

  /** Does what tab has called and says the answer. n is the call's number, least that of the first one without an answer. */
  async serve(tab: string, n: number, least: number, call: Call): Promise<void> {
    const key = `${n} ${tab}`;
    const done = this.#done.get(tab) ?? new Map<number, Said>();
    this.#done.set(tab, done);
    [...done.keys()].filter((known) => known < least).forEach((known) => done.delete(known));
    const known = done.get(n);
    if (known || this.#aborts.has(key)) {
      if (known) {
        this.#post(tab, known);
      }
      return; // it was asked again
    }
    const abort = new AbortController();
    this.#aborts.set(key, abort);
    const said: Said = { type: "answer", n };
    try {
      said.result = pack(await this.#leader.run(tab, unpack(call) as Call, abort.signal));
    } catch (err) {
      said.err = pack(err);
    }
    if (!this.#ended && !abort.signal.aborted) {
      this.#aborts.delete(key);
      if (call.method === "do") {
        done.set(n, said); // the others only look at something, or may be done again
      }
      this.#post(tab, said);
    }
  }

  /** Nobody waits for the answer to a call of tab any more. */
  abort(tab: string, n: number): void {
    const key = `${n} ${tab}`;
    this.#aborts.get(key)?.abort();
    this.#aborts.delete(key);
  }

  /** The tab has died. */
  drop(tab: string): void {
    this.#done.delete(tab);
  }

  /** This tab does not lead any more: nothing is answered from now on. What is being done goes on. */
  end(): void {
    this.#ended = true;
  }
}
