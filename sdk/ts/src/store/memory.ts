import { aside, type Batch, type Conversation, type Erasure, type Fold as StoredFold, type Former } from "../engine/types.js";
import {
  type Network,
  newMeta,
  type Outgoing,
  type Rewind,
  type Setting,
  type Snapshot,
  type Stored,
  type Trim,
} from "../engine/types.js";
import {
  type ClientMessageID,
  comparePlaces,
  type ConversationID,
  emptyFold,
  type Entry,
  erases,
  type Fold,
  isRecalled,
  makeEntry,
  mergeFolds,
  type Millis,
  newestOf,
  noClientMessageID,
  ownUser,
  type Place,
  placeOf,
  recallErases,
  type Seq,
  timeOf,
  unfold,
  type UserID,
} from "../pim/index.js";
import { newBatch } from "../engine/io.js";
import { checkObject } from "../pim/arguments.js";
import { compareText, noBytes } from "../pim/text.js";
import { Claims, type ConversationRow, type Release, type Store } from "./store.js";

/** What a Memory keeps. */
export interface MemoryOptions {
  /**
   * Keeps positions and the outbox, but no entries and no folds: whatever reads them returns none, and the last entry of a
   * conversation comes from the server's summary alone. For load tools; not together with confirm.
   */
  positionsOnly?: boolean;
}

/** How many entries and folds a Batch of dump has. */
const dumped = 500;

/** An entry that a Memory has. Its entry is replaced when it is erased. */
interface Held extends Stored {
  readonly place: Place;
}

/** What a Memory has of one conversation. */
class Remembered {
  row: Conversation | undefined;
  goneAt: Millis = 0;
  shown: Held[] = []; // in display order
  logged: Held[] = []; // the same, ascending by seq
  folds: Fold[] = []; // ascending by target
  readonly erased = new Map<UserID, Seq>();
  readonly former = new Map<ClientMessageID, Entry>();
}

/**
 * A Store that ends with the process. apply does not fail. close forgets nothing: whoever has the Memory can open it again, as
 * tests do.
 */
export class Memory implements Store {
  readonly #claims = new Claims();
  readonly #positionsOnly: boolean;
  #meta = newMeta();
  #networks: readonly Network[] = [];
  readonly #conversations = new Map<ConversationID, Remembered>();
  readonly #outbox = new Map<ClientMessageID, Outgoing>();
  readonly #settings = new Map<string, Setting>();
  #numbered: Held[] = []; // of all conversations those that have a number, ascending by it

  constructor(o: MemoryOptions = {}) {
    this.#positionsOnly = checkObject("options", o).positionsOnly ?? false;
  }

  async claim(): Promise<Release> {
    return this.#claims.take();
  }

  async load(): Promise<Snapshot> {
    const all = [...this.#conversations];
    return {
      meta: { ...this.#meta },
      conversations: all.flatMap(([, c]) => (c.row ? [{ ...c.row }] : [])),
      outbox: [...this.#outbox.values()].map((m) => ({ ...m })),
      settings: [...this.#settings.values()],
      networks: [...this.#networks],
      erasures: all.flatMap(([conversation, c]) => [...c.erased].map(([by, upTo]) => ({ conversation, by, upTo }))),
      former: all.flatMap(([id, c]) => (c.former.size > 0 ? [id] : [])),
    };
  }

  async apply(b: Batch): Promise<void> {
    this.applyNow(b);
  }

  /** Does what apply does, before it returns. */
  applyNow(b: Batch): void {
    b.rewinds.forEach((r) => this.#rewind(r));
    b.keep.forEach((e) => this.#of(e.conversation).former.set(e.clientID, e));
    this.#meta = b.meta ?? this.#meta;
    for (const row of b.conversations) {
      this.#of(row.id).row = row;
    }
    if (!this.#positionsOnly) {
      b.entries.forEach((e) => this.#insert(e));
      b.folds.forEach((f) => this.#fold(f));
    }
    b.erasures.forEach((x) => this.#erase(x));
    b.outbox.forEach((m) => this.#outbox.set(m.id, m));
    b.remove.forEach((id) => this.#outbox.delete(id));
    b.settings.forEach((s) => this.#settings.set(s.entity, s));
    this.#networks = b.networks ?? this.#networks;
    b.forget.forEach((f) => this.#forget(f));
    b.trims.forEach((t) => this.#trim(t));
  }

  /** Returns batches that make an empty Memory hold what this one holds. They may refer to it. */
  dump(): Batch[] {
    const all = [...this.#conversations];
    const batches: Batch[] = [];
    const add = (changes: Partial<Batch>): void => void batches.push({ ...newBatch(), ...changes });
    // An entry that is there only to be taken away leaves its time.
    const gone = all.filter(([, c]) => c.goneAt !== 0);
    add({
      entries: gone.map(([conversation, c]) => {
        return { number: 0, late: false, entry: makeEntry({ conversation, seq: 1, anchor: 1, server: c.goneAt }) };
      }),
      trims: gone.map(([conversation]) => ({ conversation, front: 2, former: 0 })),
    });
    add({
      meta: this.#meta,
      networks: [...this.#networks],
      conversations: all.flatMap(([, c]) => c.row ?? []),
      outbox: [...this.#outbox.values()],
      settings: [...this.#settings.values()],
      erasures: all.flatMap(([conversation, c]) => [...c.erased].map(([by, upTo]) => ({ conversation, by, upTo }))),
      keep: all.flatMap(([, c]) => [...c.former.values()]),
    });
    for (const [conversation, c] of all) {
      for (let i = 0; i < Math.max(c.logged.length, c.folds.length); i += dumped) {
        const folds = c.folds.slice(i, i + dumped).map((fold) => ({ conversation, fold }));
        add({ entries: c.logged.slice(i, i + dumped).map(storedOf), folds });
      }
    }
    return batches;
  }

  #of(id: ConversationID): Remembered {
    let c = this.#conversations.get(id);
    if (!c) {
      c = new Remembered();
      this.#conversations.set(id, c);
    }
    return c;
  }

  #insert({ entry, number, late }: Stored): void {
    const c = this.#of(entry.conversation);
    const at = lowerBound(c.logged, entry.seq, seqOf);
    if (c.logged[at]?.entry.seq === entry.seq) {
      return;
    }
    const target = entry.refers === 0 ? entry.seq : entry.refers;
    const f = foldAt(c, target);
    const kept = f && recallErases(f, entry) ? withoutPayload(entry) : entry;
    const held: Held = { entry: kept, number, late, place: placeOf(entry) };
    c.logged.splice(at, 0, held);
    c.shown.splice(placeIn(c.shown, held.place), 0, held);
    if (number > 0) {
      this.#numbered.splice(lowerBound(this.#numbered, number, numberOf), 0, held);
    }
  }

  /** Merges what is new into the stored fold. */
  #fold({ conversation, fold }: StoredFold): void {
    const c = this.#of(conversation);
    const at = lowerBound(c.folds, fold.target, targetOf);
    const known = foldAt(c, fold.target);
    const merged = mergeFolds(known ?? emptyFold(fold.target), fold);
    c.folds.splice(at, known ? 1 : 0, merged);
    if (isRecalled(merged) && !(known && isRecalled(known))) {
      eraseThose(c, (e) => recallErases(merged, e));
    }
  }

  #erase(x: Erasure): void {
    const c = this.#of(x.conversation);
    c.erased.set(x.by, x.upTo);
    eraseThose(c, (e) => erases(x, e));
    c.folds = c.folds.map((f) => unfold(x, f));
  }

  #rewind(r: Rewind): void {
    const c = this.#of(r.conversation);
    for (const { entry } of c.logged) {
      if (entry.seq > r.after && entry.sender === r.sender && !entry.erased) {
        c.former.set(entry.clientID, entry);
      }
    }
    this.#keepOnly(c, (e) => e.seq <= r.after);
    for (const [id, e] of c.former) {
      const left = aside(r, e);
      if (left) {
        c.former.set(id, left);
      } else {
        c.former.delete(id);
      }
    }
    c.folds = c.folds.filter((f) => newestOf(f) <= r.after);
    if (ownUser(r.conversation) !== undefined) {
      this.#settings.clear();
    }
  }

  #trim(t: Trim): void {
    const c = this.#of(t.conversation);
    const gone = c.logged[lowerBound(c.logged, t.front, seqOf) - 1];
    c.goneAt = Math.max(c.goneAt, gone ? timeOf(gone.entry) : 0);
    this.#keepOnly(c, (e) => e.seq >= t.front);
    c.folds = c.folds.filter((f) => f.target >= t.front);
    for (const [id, e] of c.former) {
      if (e.seq < t.former) {
        c.former.delete(id);
      }
    }
  }

  #keepOnly(c: Remembered, keep: (e: Entry) => boolean): void {
    const gone = new Set(c.logged.filter((h) => !keep(h.entry)));
    if (gone.size > 0) {
      const left = (h: Held): boolean => !gone.has(h);
      c.logged = c.logged.filter(left);
      c.shown = c.shown.filter(left);
      this.#numbered = this.#numbered.filter(left);
    }
  }

  #forget({ conversation, id }: Former): void {
    const { former } = this.#of(conversation);
    if (id === undefined || id === noClientMessageID) {
      former.clear();
    } else {
      former.delete(id);
    }
  }

  async conversations(): Promise<ConversationRow[]> {
    const rows = [...this.#conversations.values()].flatMap((c) => rowOf(c) ?? []);
    return rows.sort((a, b) => compareText(a.id, b.id));
  }

  async conversation(id: ConversationID): Promise<ConversationRow | undefined> {
    const c = this.#conversations.get(id);
    return c && rowOf(c);
  }

  async entries(conversation: ConversationID, before: Place | undefined, limit: number): Promise<Entry[]> {
    const shown = this.#conversations.get(conversation)?.shown ?? [];
    const end = before ? placeIn(shown, before) : shown.length;
    return shown.slice(Math.max(0, end - Math.max(0, limit)), end).map(entryOf);
  }

  async range(conversation: ConversationID, from: Seq, to: Seq, limit: number): Promise<Entry[]> {
    return between(this.#logged(conversation), from, to, seqOf).slice(0, Math.max(0, limit)).map(entryOf);
  }

  async below(conversation: ConversationID, to: Seq, limit: number): Promise<Entry[]> {
    const logged = this.#logged(conversation);
    const end = lowerBound(logged, to + 1, seqOf);
    return logged.slice(Math.max(0, end - Math.max(0, limit)), end).map(entryOf);
  }

  async since(number: number, limit: number): Promise<Stored[]> {
    const at = lowerBound(this.#numbered, number + 1, numberOf);
    return this.#numbered.slice(at, at + Math.max(0, limit)).map(storedOf);
  }

  async former(conversation: ConversationID, skip: number, limit: number): Promise<Entry[]> {
    const former = this.#conversations.get(conversation)?.former.values() ?? [];
    const all = [...former].sort((a, b) => a.seq - b.seq || compareText(a.clientID, b.clientID));
    return all.slice(Math.max(0, skip)).slice(0, Math.max(0, limit));
  }

  async folds(conversation: ConversationID, from: Seq, to: Seq): Promise<Fold[]> {
    return between(this.#conversations.get(conversation)?.folds ?? [], from, to, targetOf);
  }

  async close(): Promise<void> {}

  #logged(conversation: ConversationID): Held[] {
    return this.#conversations.get(conversation)?.logged ?? [];
  }
}

function rowOf(c: Remembered): ConversationRow | undefined {
  return c.row && { ...c.row, last: c.row.last ?? c.logged.at(-1)?.entry, goneAt: c.goneAt };
}

function foldAt(c: Remembered, target: Seq): Fold | undefined {
  const f = c.folds[lowerBound(c.folds, target, targetOf)];
  return f?.target === target ? f : undefined;
}

function eraseThose(c: Remembered, erased: (e: Entry) => boolean): void {
  for (const held of c.logged) {
    if (erased(held.entry)) {
      held.entry = withoutPayload(held.entry);
    }
  }
}

/** Returns e as it is stored when its payload is erased. */
export function withoutPayload(e: Entry): Entry {
  return { ...e, payload: noBytes, erased: true };
}

const seqOf = (h: Held): Seq => h.entry.seq;
const numberOf = (h: Held): number => h.number;
const targetOf = (f: Fold): Seq => f.target;
const entryOf = (h: Held): Entry => h.entry;
const storedOf = ({ entry, number, late }: Held): Stored => ({ entry, number, late });

/** Returns the index of the first of list whose key is at least least; list ascends by key. */
function lowerBound<T>(list: readonly T[], least: number, key: (of: T) => number): number {
  return firstIndex(list, (one) => key(one) >= least);
}

/** Returns the part of list whose keys are from..to; list ascends by key. */
function between<T>(list: readonly T[], from: number, to: number, key: (of: T) => number): T[] {
  return list.slice(lowerBound(list, from, key), lowerBound(list, to + 1, key));
}

/** Returns where a place is, or belongs, in list, which is in display order. */
function placeIn(list: readonly Held[], place: Place): number {
  return firstIndex(list, (h) => comparePlaces(h.place, place) >= 0);
}

/** Returns the index of the first of list for which is holds; it holds for all behind that one, too. */
function firstIndex<T>(list: readonly T[], is: (of: T) => boolean): number {
  let from = 0;
  let to = list.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const one = list[middle];
    if (one !== undefined && is(one)) {
      to = middle;
    } else {
      from = middle + 1;
    }
  }
  return from;
}
