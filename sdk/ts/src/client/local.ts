import { frontOf, misses, outboxOf, type Pending, type Pulled, skipped } from "../engine/index.js";
import { type ConversationID, type Entry, type Fold, PimError, type Seq } from "../pim/index.js";
import { type ConversationRow, type Release, type Store } from "../store/store.js";
import { type Feed } from "./confirm.js";
import { type SendEvent } from "./events.js";
import { Loop } from "./loop.js";
import { type Checked } from "./options.js";
import {
  type AppInput,
  type AskInput,
  type FoldPage,
  type MessagePage,
  type PageStart,
  type Session,
  type Started,
  type Update,
  type ViewPage,
} from "./session.js";

/** Above every seq. */
const endSeq: Seq = Number.MAX_SAFE_INTEGER;

/** A Session whose loop is in this tab, or process. */
export class LocalSession implements Session {
  readonly #loop: Loop;
  readonly #end: () => Promise<void>;

  private constructor(loop: Loop, end: () => Promise<void>) {
    this.#loop = loop;
    this.#end = end;
  }

  /**
   * Takes the store and begins to connect. It throws a PimError of kind "conflict" if the store belongs to another user or device
   * or another Client uses it, and the store's own errors. If owns is set, it closes the store in the end.
   */
  static async open(o: Checked, store: Store, owns: boolean): Promise<LocalSession> {
    let release: Release | undefined;
    const end = async (): Promise<void> => {
      release?.();
      if (owns) {
        await store.close();
      }
    };
    try {
      release = await store.claim();
      const snapshot = await store.load();
      checkOwner(o, snapshot.meta);
      if (o.options.confirm && snapshot.meta.key.length === 0) {
        snapshot.meta.key = crypto.getRandomValues(new Uint8Array(16));
      }
      const loop = new Loop(o, store, snapshot);
      loop.start();
      return new LocalSession(loop, end);
    } catch (err) {
      await end().catch(() => undefined); // err says more
      throw err;
    }
  }

  /** Has on called when the session is of no use any more, mostly because the store failed. Its calls are refused then. */
  onBroken(on: (err: PimError) => void): void {
    this.#loop.onBroken = on;
  }

  get feed(): Feed | undefined {
    return this.#loop.feed;
  }

  do(input: AppInput): Promise<void> {
    return this.#loop.do(input);
  }

  ask(input: AskInput, signal?: AbortSignal): Promise<Pulled> {
    return this.#loop.ask((id) => ({ ...input, id }), signal);
  }

  fill(conversation: ConversationID, before: Seq, limit: number, signal?: AbortSignal): Promise<boolean> {
    return this.#loop.fill((id) => ({ type: "fill", id, conversation, before, limit }), signal);
  }

  page(conversation: ConversationID, before: PageStart | undefined, limit: number): Promise<ViewPage> {
    const { engine, store } = this.#loop;
    return this.#loop.call(async () => {
      const entries = await store.entries(conversation, before?.place, limit);
      const page = {
        number: this.#loop.number,
        skipped: skipped(engine, conversation, endSeq),
        front: frontOf(engine, conversation),
        outbox: outboxOf(engine, conversation),
      };
      if (before !== undefined) {
        const least = entries.length === limit ? seqsOf(entries).from : 1;
        if (misses(engine, conversation, least, before.seq - 1)) {
          return { ...page, entries: [], folds: [], missing: true };
        }
      }
      return { ...page, entries, folds: await this.#foldsOf(conversation, entries), missing: false };
    });
  }

  messages(conversation: ConversationID, from: Seq, to: Seq): Promise<MessagePage> {
    const { engine, store } = this.#loop;
    return this.#loop.call(async () => {
      const entries = await store.range(conversation, from, to, to - from + 1);
      const folds = await this.#foldsOf(conversation, entries);
      return { number: this.#loop.number, entries, folds, outbox: outboxOf(engine, conversation) };
    });
  }

  folds(conversation: ConversationID, from: Seq, to: Seq): Promise<FoldPage> {
    return this.#loop.call(async () => ({
      folds: await this.#loop.store.folds(conversation, from, to),
      number: this.#loop.number,
    }));
  }

  /** Nothing: whoever has a loop of its own hears all that it says. */
  ended(): Promise<SendEvent[]> {
    return Promise.resolve([]);
  }

  outbox(conversation: ConversationID): Promise<Pending[]> {
    return this.#loop.call(() => outboxOf(this.#loop.engine, conversation));
  }

  rows(conversation?: ConversationID): Promise<ConversationRow[]> {
    const { store } = this.#loop;
    return this.#loop.call(async () => {
      if (conversation === undefined) {
        return store.conversations();
      }
      const row = await store.conversation(conversation);
      return row === undefined ? [] : [row];
    });
  }

  entriesAfter(conversation: ConversationID, after: Seq, limit: number): Promise<Entry[]> {
    const { store } = this.#loop;
    return this.#loop.call(async () => {
      const row = await store.conversation(conversation);
      let to = row?.known ?? 0;
      for (const h of row?.holes ?? []) {
        if (!h.lazy && h.to > after) {
          to = Math.min(to, h.from - 1);
        }
      }
      return after >= to ? [] : store.range(conversation, after + 1, to, limit);
    });
  }

  start(): Promise<Started> {
    const { engine, state, err, settings, synced, number } = this.#loop;
    return Promise.resolve({ user: engine.user(), state, err, settings: [...settings.values()], synced, number });
  }

  listen(on: (update: Update) => void): () => void {
    return this.#loop.listen(on);
  }

  hold(on: boolean): void {
    this.#loop.hold(on);
  }

  async close(): Promise<void> {
    await this.#loop.close();
    await this.#end();
  }

  /** Reads the folds of the messages of a page. */
  async #foldsOf(conversation: ConversationID, page: readonly Entry[]): Promise<Fold[]> {
    const { from, to } = seqsOf(page);
    return from > to ? [] : this.#loop.store.folds(conversation, from, to);
  }
}

/** Throws a PimError if the store with meta belongs to another user or device than o names. */
function checkOwner(o: Checked, meta: { user: string; device: string }): void {
  const { device } = o.options;
  if (meta.device !== "" && meta.device !== device) {
    throw new PimError("conflict", `the store is device ${meta.device}'s, not ${device}'s`);
  }
  if (meta.user !== "" && o.user !== "" && meta.user !== o.user) {
    throw new PimError("conflict", `the store is user ${meta.user}'s, not ${o.user}'s`);
  }
}

/** Returns the least and the greatest seq of entries; from > to: there are none. */
function seqsOf(entries: readonly Entry[]): { from: Seq; to: Seq } {
  let from = endSeq;
  let to = 0;
  for (const { seq } of entries) {
    from = Math.min(from, seq);
    to = Math.max(to, seq);
  }
  return { from, to };
}
