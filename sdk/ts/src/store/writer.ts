import { wrap } from "idb";
import {
  aside,
  type Batch,
  type Erasure,
  type Fold as StoredFold,
  type Former,
  type Rewind,
  type Stored,
  type Trim,
} from "../engine/types.js";
import {
  type ConversationID,
  emptyFold,
  type Entry,
  erases,
  type Fold,
  isRecalled,
  mergeFolds,
  newestOf,
  noClientMessageID,
  ownUser,
  recallErases,
  type Seq,
  timeOf,
  unfold,
} from "../pim/index.js";
import { withoutPayload } from "./memory.js";
import { conversationRow, entryData, foldData, outgoingRow, readEntry, readFold, settingRow } from "./rows.js";
import {
  allOf,
  type End,
  type EntryRow,
  entryRow,
  type FoldRow,
  type FormerRow,
  maxEnd,
  type Table,
  within,
} from "./schema.js";

/** How many rows are read at a time. */
const chunk = 500;

/** The tables of what is stored of conversations' histories. */
const history: readonly Table[] = ["entries", "ends", "folds"];

/** Returns the tables that batches touch. */
export function tablesOf(batches: readonly Batch[]): Table[] {
  const touched = new Set<Table>(["single"]);
  const add = (lists: readonly (readonly unknown[])[], ...tables: Table[]): void => {
    if (lists.some((list) => list.length > 0)) {
      tables.forEach((t) => touched.add(t));
    }
  };
  for (const b of batches) {
    add([b.conversations], "conversations");
    add([b.entries, b.folds, b.erasures, b.rewinds, b.trims], ...history);
    add([b.rewinds, b.keep, b.forget, b.trims], "former");
    add([b.settings, b.rewinds], "settings");
    add([b.outbox, b.remove], "outbox");
    add([b.erasures], "erasures");
  }
  return [...touched];
}

/** Writes batches within one transaction. A request that fails makes the transaction fail. */
export class Writer {
  readonly #tx: IDBTransaction;
  readonly #ends = new Set<ConversationID>(); // whose End may have changed
  readonly #gone = new Map<ConversationID, number>(); // at least when an entry was written that a Trim has taken

  constructor(tx: IDBTransaction) {
    this.#tx = tx;
  }

  #table(name: Table): IDBObjectStore {
    return this.#tx.objectStore(name);
  }

  async apply(b: Batch): Promise<void> {
    for (const r of b.rewinds) {
      await this.#rewind(r);
    }
    b.keep.forEach((e) => this.#keep(e));
    if (b.meta) {
      this.#table("single").put(b.meta, "meta");
    }
    if (b.networks) {
      this.#table("single").put(b.networks, "networks");
    }
    b.conversations.forEach((c) => this.#table("conversations").put(conversationRow(c)));
    await this.#insert(b.entries);
    await this.#merge(b.folds);
    for (const x of b.erasures) {
      await this.#erase(x);
    }
    b.outbox.forEach((m) => this.#table("outbox").put(outgoingRow(m)));
    b.remove.forEach((id) => this.#table("outbox").delete(id));
    b.settings.forEach((s) => this.#table("settings").put(settingRow(s)));
    b.forget.forEach((f) => this.#forget(f));
    for (const t of b.trims) {
      await this.#trim(t);
    }
  }

  /** Writes what follows from all that was applied. It is to be called once, at the end. */
  async finish(): Promise<void> {
    const table = this.#ends.size > 0 ? this.#table("ends") : undefined;
    const end = async (c: ConversationID): Promise<void> => {
      const [was, last] = await Promise.all([wrap<End | undefined>(table?.get(c) as IDBRequest), this.#last(allOf(c))]);
      const gone = Math.max(was?.gone ?? 0, this.#gone.get(c) ?? 0);
      const small = last && last.d.length <= maxEnd;
      const row: End = { c, s: last?.s ?? 0, gone, ...(small ? { d: last.d } : {}) };
      table?.put(row);
    };
    await Promise.all([...this.#ends].map(end));
  }

  /** Returns the last entry of a range of the table's keys. */
  async #last(range: IDBKeyRange): Promise<EntryRow | undefined> {
    const cursor = await wrap(this.#table("entries").openCursor(range, "prev"));
    return cursor?.value as EntryRow | undefined;
  }

  /** Inserts entries, except those that are there. Those whose message is recalled have no payload then. */
  async #insert(entries: readonly Stored[]): Promise<void> {
    const of = new Map<ConversationID, Stored[]>();
    entries.forEach((s) => of.set(s.entry.conversation, [...(of.get(s.entry.conversation) ?? []), s]));
    for (const [c, list] of of) {
      this.#ends.add(c);
      const targets = list.map(({ entry }) => entry.refers || entry.seq);
      const range = within(c, Math.min(...targets), Math.max(...targets));
      const recalled = new Set<Seq>();
      for (const key of await wrap(this.#table("folds").index("recalled").getAllKeys(range))) {
        recalled.add((key as [ConversationID, Seq])[1]);
      }
      list.forEach(({ entry, number, late }, i) => {
        const target = targets[i] ?? 0;
        const f = recalled.has(target)
          ? { ...emptyFold(target), recall: { seq: 1, by: "", time: 0, removed: false } }
          : undefined;
        this.#add(entryRow(f && recallErases(f, entry) ? withoutPayload(entry) : entry, number, late));
      });
    }
  }

  /** Adds an entry, unless it is there: then the request fails, which is to have no consequence. */
  #add(row: EntryRow): void {
    const request = this.#table("entries").add(row);
    request.onerror = (event) => {
      if (request.error?.name === "ConstraintError") {
        event.preventDefault();
        event.stopPropagation();
      }
    };
  }

  async #merge(folds: readonly StoredFold[]): Promise<void> {
    const table = folds.length > 0 ? this.#table("folds") : undefined;
    const known = new Map<string, Fold>();
    const name = (c: ConversationID, target: Seq): string => `${target} ${c}`;
    const get = async ({ conversation: c, fold: { target } }: StoredFold): Promise<void> => {
      const row = await wrap<FoldRow | undefined>(table?.get([c, target]) as IDBRequest);
      if (row) {
        known.set(name(c, target), readFold(c, row.d));
      }
    };
    await Promise.all(folds.map(get));
    for (const { conversation: c, fold } of folds) {
      const was = known.get(name(c, fold.target));
      const merged = mergeFolds(was ?? emptyFold(fold.target), fold);
      known.set(name(c, fold.target), merged);
      table?.put(foldRow(c, merged));
      if (isRecalled(merged) && !(was && isRecalled(was))) {
        const target = within(c, fold.target, fold.target);
        await this.#eraseThose(this.#table("entries"), target, (e) => recallErases(merged, e));
        await this.#eraseThose(this.#table("entries").index("referring"), target, (e) => recallErases(merged, e));
      }
    }
  }

  async #erase(x: Erasure): Promise<void> {
    const { conversation: c, by, upTo } = x;
    this.#table("erasures").put({ conversation: c, by, upTo });
    await this.#eraseThose(this.#table("entries"), within(c, 0, upTo), (e) => erases(x, e));
    await this.#eraseThose(this.#table("entries").index("referring"), within(c, 1, upTo), (e) => erases(x, e));
    await each<FoldRow>(this.#table("folds"), within(c, 0, upTo), ({ d }) => {
      const f = readFold(c, d);
      const left = unfold(x, f);
      if (left !== f) {
        this.#table("folds").put(foldRow(c, left));
      }
    });
  }

  /** Takes the payloads of some of a range of entries. */
  async #eraseThose(from: Source, range: IDBKeyRange | undefined, erased: (e: Entry) => boolean): Promise<void> {
    await each<EntryRow>(from, range, (row) => {
      const e = readEntry(row.c, row.d);
      if (erased(e) && !e.erased) {
        this.#ends.add(row.c);
        this.#table("entries").put({ ...row, d: entryData(withoutPayload(e)) });
      }
    });
  }

  async #rewind(r: Rewind): Promise<void> {
    const c = r.conversation;
    const above = IDBKeyRange.bound([c, r.after], [c, []], true);
    this.#ends.add(c);
    await each<EntryRow>(this.#table("entries"), above, ({ d }) => {
      const e = readEntry(c, d);
      if (e.sender === r.sender && !e.erased) {
        this.#keep(e);
      }
    });
    this.#table("entries").delete(above);
    await each<FormerRow>(this.#table("former"), allOf(c), (row) => {
      const e = readEntry(c, row.d);
      const left = aside(r, e);
      if (!left) {
        this.#table("former").delete([c, row.id]);
      } else if (left !== e) {
        this.#keep(left);
      }
    });
    await this.#deleteThose("folds", "newest", above);
    if (ownUser(c) !== undefined) {
      this.#table("settings").clear();
    }
  }

  #keep(e: Entry): void {
    const row: FormerRow = { c: e.conversation, id: e.clientID, s: e.seq, d: entryData(e) };
    this.#table("former").put(row);
  }

  #forget({ conversation: c, id }: Former): void {
    const all = id === undefined || id === noClientMessageID;
    this.#table("former").delete(all ? allOf(c) : [c, id]);
  }

  async #trim(t: Trim): Promise<void> {
    const c = t.conversation;
    const below = IDBKeyRange.bound([c], [c, t.front], false, true);
    this.#ends.add(c);
    const gone = await this.#last(below);
    this.#gone.set(c, Math.max(this.#gone.get(c) ?? 0, gone ? timeOf(readEntry(c, gone.d)) : 0));
    this.#table("entries").delete(below);
    this.#table("folds").delete(below);
    await this.#deleteThose("former", "seq", IDBKeyRange.bound([c], [c, t.former], false, true));
  }

  /** Deletes the rows of a range of an index. */
  async #deleteThose(table: Table, index: string, range: IDBKeyRange): Promise<void> {
    const keys = await wrap(this.#table(table).index(index).getAllKeys(range));
    keys.forEach((key) => this.#table(table).delete(key));
  }
}

function foldRow(c: ConversationID, f: Fold): FoldRow {
  const row: FoldRow = { c, t: f.target, n: newestOf(f), d: foldData(f) };
  return isRecalled(f) ? { ...row, r: f.target } : row;
}

type Source = IDBObjectStore | IDBIndex;

/**
 * Calls f on each row of a range; undefined is an empty one. f may change the row, except for what it is found by. A table is read in
 * parts, so that a long history is not in memory at once.
 */
async function each<T extends object>(from: Source, range: IDBKeyRange | undefined, f: (row: T) => void): Promise<void> {
  if (!range) {
    return;
  }
  if (from instanceof IDBIndex) {
    (await wrap<T[]>(from.getAll(range))).forEach(f);
    return;
  }
  for (let left = range; ;) {
    const rows = await wrap<T[]>(from.getAll(left, chunk));
    rows.forEach(f);
    const last: Record<string, unknown> | undefined = rows.length < chunk ? undefined : { ...rows.at(-1) };
    if (!last) {
      return;
    }
    const key = [from.keyPath ?? []].flat().map((member) => last[member]);
    left = IDBKeyRange.bound(key, range.upper, true, range.upperOpen);
  }
}
