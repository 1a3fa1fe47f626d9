// Web Locks as browsers have them, for tests in Node. Each tab has a LockManager of its own, and may be killed.

interface Request {
  readonly tab: string;
  readonly name: string;
  rob: () => void;
  grant: () => void;
}

/** All locks of an origin. */
export class WebLocks {
  readonly #held = new Map<string, Request>();
  readonly #queue: Request[] = [];
  readonly #dead = new Set<string>();
  /** Has a tab told that it was robbed of a lock. */
  later: (tab: string, f: () => void) => void = (_, f) => f();

  /** Returns the LockManager of a tab. */
  of(tab: string): LockManager {
    const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
      const callback = rest.at(-1) as LockGrantedCallback<unknown>;
      const options = rest.length > 1 ? (rest[0] as LockOptions) : {};
      return this.#request(tab, name, options, callback);
    };
    const query = async (): Promise<LockManagerSnapshot> => ({
      held: [...this.#held.values()].map(({ name, tab: clientId }) => ({ name, clientId, mode: "exclusive" })),
      pending: this.#queue.map(({ name, tab: clientId }) => ({ name, clientId, mode: "exclusive" })),
    });
    return { request, query } as LockManager;
  }

  #request(tab: string, name: string, o: LockOptions, callback: LockGrantedCallback<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#dead.has(tab)) {
        return; // nobody is there to hear
      }
      const rob = (): void => this.later(tab, () => reject(new DOMException("the lock was stolen", "AbortError")));
      const mine: Request = { tab, name, rob, grant: () => undefined };
      const run = (lock: Lock | null): Promise<void> => Promise.resolve(lock).then(callback).then(resolve, reject);
      mine.grant = () => {
        this.#held.set(name, mine);
        void run({ name, mode: "exclusive" }).then(() => this.#release(mine));
      };
      if (o.signal?.aborted) {
        reject(o.signal.reason);
      } else if (o.ifAvailable && (this.#held.has(name) || this.#queue.some((other) => other.name === name))) {
        void run(null);
      } else if (o.steal) {
        this.#held.get(name)?.rob();
        this.#held.delete(name);
        queueMicrotask(() => mine.grant());
      } else {
        this.#queue.push(mine);
        o.signal?.addEventListener("abort", () => {
          const at = this.#queue.indexOf(mine);
          if (at >= 0) {
            this.#queue.splice(at, 1);
            reject(o.signal?.reason);
          }
        });
        queueMicrotask(() => this.#next(name));
      }
    });
  }

  #release(of: Request): void {
    if (this.#held.get(of.name) === of) {
      this.#held.delete(of.name);
      this.#next(of.name);
    }
  }

  #next(name: string): void {
    const at = this.#queue.findIndex((waits) => waits.name === name);
    if (at >= 0 && !this.#held.has(name)) {
      this.#queue.splice(at, 1)[0]?.grant();
    }
  }

  /** The tab dies: what it holds is free, what it waits for is forgotten. */
  kill(tab: string): void {
    this.#dead.add(tab);
    for (let at = this.#queue.length - 1; at >= 0; at--) {
      if (this.#queue[at]?.tab === tab) {
        this.#queue.splice(at, 1);
      }
    }
    [...this.#held.values()].filter((held) => held.tab === tab).forEach((held) => this.#release(held));
  }

  /** Returns the tab that holds a lock. */
  holder(name: string): string | undefined {
    return this.#held.get(name)?.tab;
  }
}

/** Makes locks those of this process: navigator.locks; undefined takes them away. */
export function setLocks(locks: LockManager | undefined): void {
  Object.defineProperty(globalThis, "navigator", { value: locks && { locks }, configurable: true });
}
