import type { ConversationID, UserID } from "@pim-im/client";

/**
 * Which conversation a person reads in this tab, as the other tabs of the browser can see it: the tab holds a shared Web Lock of its
 * name. Where there are no Web Locks, tabs do not know of each other.
 */
export class Watch {
  readonly #user: UserID;
  #reads: ConversationID | undefined;
  #end: AbortController | undefined;

  constructor(user: UserID) {
    this.#user = user;
  }

  /** Says what the person reads here now; undefined: nothing. */
  read(id: ConversationID | undefined): void {
    if (id === this.#reads) {
      return;
    }
    this.#reads = id;
    this.#end?.abort();
    this.#end = undefined;
    if (id === undefined || !("locks" in navigator)) {
      return;
    }
    const { signal } = (this.#end = new AbortController());
    const held = (): Promise<void> =>
      new Promise((done) => (signal.aborted ? done() : signal.addEventListener("abort", () => done())));
    navigator.locks.request(this.#name(id), { mode: "shared" }, held).catch(() => undefined); // the page ends
  }

  /** Reports whether the person reads the conversation in some tab. */
  async somewhere(id: ConversationID): Promise<boolean> {
    if (id === this.#reads || !("locks" in navigator)) {
      return id === this.#reads;
    }
    const { held = [] } = await navigator.locks.query();
    return held.some((lock) => lock.name === this.#name(id));
  }

  #name(id: ConversationID): string {
    return `pim.reads ${this.#user} ${id}`;
  }
}
