import { type IDBPDatabase, openDB, unwrap, wrap } from "idb";
import { type Batch, type Erasure, type Meta, type SendEvent, type Snapshot, type Stored } from "../engine/types.js";
import { checkObject } from "../pim/arguments.js";
import {
  checkDeviceID,
  checkUserID,
  type ConversationID,
  type DeviceID,
  type Entry,
  type Fold,
  type PimError,
  type Place,
  type Seq,
} from "../pim/index.js";
import type { UserID } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { Joined } from "./joined.js";
import { blocked, deleted, newerVersion, noDatabase, storeError, unavailable } from "./errors.js";
import {
  corrupt,
  endedRow,
  like,
  listOf,
  readConversation,
  readEnded,
  readEntry,
  readFold,
  readMeta,
  readNetworks,
  readOutgoing,
  readSetting,
} from "./rows.js";
import { allOf, type End, type EntryRow, type FoldRow, type FormerRow, type Table, tables } from "./schema.js";
import { upgrade, version, within } from "./schema.js";
import { type Changes, Claims, type ConversationRow, type Release, type Store, taken } from "./store.js";
import { tablesOf, Writer } from "./writer.js";

/** How openDatabase opens a database. */
export interface DatabaseOptions {
  /** Whose messages are stored, on which device. The database's name follows from them: see databaseName. */
  user: UserID;
  device: DeviceID;
  /**
   * Is called when another tab, which has an older version of the app, keeps the database from being opened, with an error of kind
   * "conflict" for the person. openDatabase goes on when that tab is gone.
   */
  onBlocked?: (err: PimError) => void;
  /** The caller holds the Web Lock of the database's name already, so claim does not ask for it. */
  locked?: boolean;
}

/** A Store in IndexedDB. */
export interface DatabaseStore extends Store {
  /** Counts the claims on the database, up to that of this store; 0: it has none. */
  readonly term: number;
  /** Nobody has claimed the database before the last claim: it is new. */
  readonly fresh: boolean;
  /**
   * What had become of the messages that left the outbox last, in its order, when the store was loaded: a tab that led may have died
   * before it told the others. It is of the last mostEnded transactions that took messages out.
   */
  readonly ended: readonly SendEvent[];
  onLost(on: (err: PimError) => void): void;
}

/** Of how many transactions the store has DatabaseStore.ended. */
const mostEnded = 64;

/** Returns the name of the database of a user's device, which is that of its Web Lock, too. IDs have no ":". */
export function databaseName(user: UserID, device: DeviceID): string {
  return `pim:${user}:${device}`;
}

/**
 * Opens the IndexedDB database of a user's device, and creates it if there is none. It throws a PimError:
 *
 * - "forbidden": there is no IndexedDB, or the page may not use it (private windows of some browsers, storage switched off)
 * - "unsupported": the database is of a newer version of the app, and the page is to be loaded again
 * - "disk_full": the browser gives no room
 * - "unavailable": the database cannot be opened
 * - "invalid": user or device is none
 *
 * What is applied survives the page and the browser. The outbox, what the app is done with and the other positions of Meta also
 * survive that the machine loses power (durability "strict"); of the history the last moments may be lost then, and come from
 * the server again. A browser may delete the database when it needs room, unless the app has called navigator.storage.persist().
 *
 * While it is open it may be lost (Store.onLost), to an error of one of these kinds:
 *
 * - "unsupported": a tab with a newer version of the app wants to have it
 * - "not_found": it was deleted, because the person has cleared it or the browser needed room
 * - "conflict": another tab has claimed it. Where there are Web Locks claim refuses that; where there are none (pages that were
 *   not loaded by HTTPS) the last claim holds, and what the tab before it applies is refused.
 */
export async function openDatabase(o: DatabaseOptions): Promise<DatabaseStore> {
  if (typeof indexedDB === "undefined") {
    throw noDatabase();
  }
  checkUserID(checkObject("options", o).user);
  checkDeviceID(o.device);
  const name = databaseName(o.user, o.device);
  let store: Database | undefined;
  let lost: PimError | undefined; // before it was open
  const lose = (err: PimError): void => {
    lost ??= err;
    store?.lose(err);
  };
  try {
    const db = await openDB(name, version, {
      upgrade: (opened, from) => upgrade(unwrap(opened), from),
      blocked: () => o.onBlocked?.(blocked()),
      blocking: (_, wanted) => lose(wanted === null ? deleted() : newerVersion()),
      terminated: () => lose(deleted()),
    });
    store = new Database(name, db, o.locked ?? false);
  } catch (err) {
    throw err instanceof Error && err.name === "InvalidStateError" ? noDatabase(err) : storeError(err);
  }
  if (lost) {
    store.lose(lost);
  }
  return store;
}

class Database implements DatabaseStore {
  term = 0;
  fresh = false;
  ended: readonly SendEvent[] = [];
  #ends = 0; // counts the transactions of ended
  readonly #name: string;
  readonly #db: IDBPDatabase;
  readonly #locked: boolean;
  readonly #claims = new Claims();
  #owner: number | undefined; // the term that this tab's claim has written
  #released: Promise<unknown> | undefined; // the lock of the last claim is free again
  readonly #joined = new Joined((batches) => this.#write(batches));
  #meta: Meta | undefined; // as it was written last
  #lost: PimError | undefined;
  readonly #onLost: ((err: PimError) => void)[] = [];

  constructor(name: string, db: IDBPDatabase, locked: boolean) {
    this.#name = name;
    this.#db = db;
    this.#locked = locked;
  }

  async claim(): Promise<Release> {
    const release = this.#claims.take();
    try {
      const unlock = await this.#lock();
      const term = await this.#run(["single"], "readwrite", async (tx) => {
        const last: unknown = await wrap(tx.objectStore("single").get("owner"));
        this.fresh = typeof last !== "number";
        // By the clock, since a database that was deleted and made anew does not know the terms that tabs have heard of.
        const next = Math.max(typeof last === "number" ? last + 1 : 1, Date.now());
        tx.objectStore("single").put(next, "owner");
        return next;
      });
      this.#owner = this.term = term;
      return () => {
        if (this.#owner === term) {
          this.#owner = undefined;
          unlock();
          release();
        }
      };
    } catch (err) {
      release();
      throw storeError(err);
    }
  }

  /** Takes the Web Lock of the database, where there are Web Locks, and returns what lets it go. */
  async #lock(): Promise<Release> {
    const locks = typeof navigator === "undefined" ? undefined : (navigator.locks as LockManager | undefined);
    if (!locks || this.#locked) {
      return () => undefined;
    }
    await this.#released;
    return new Promise((resolve, reject) => {
      const held = locks.request(this.#name, { ifAvailable: true }, (lock) => {
        if (!lock) {
          throw taken();
        }
        return new Promise<void>((unlock) => resolve(unlock));
      });
      this.#released = held.catch(reject);
    });
  }

  onLost(on: (err: PimError) => void): void {
    if (this.#lost) {
      on(this.#lost);
    } else {
      this.#onLost.push(on);
    }
  }

  /** Says that the database cannot be used any more. A transaction that runs may still end well. */
  lose(err: PimError): void {
    if (!this.#lost) {
      this.#lost = err;
      this.#db.close();
      this.#onLost.splice(0).forEach((on) => on(err));
    }
  }

  async close(): Promise<void> {
    await this.#joined.idle();
    this.#lost ??= unavailable("the database was closed by the app");
    this.#db.close();
  }

  apply(batch: Changes): Promise<void> {
    return this.#joined.add(batch);
  }

  async #write(batches: readonly Changes[]): Promise<void> {
    const meta = batches.reduce<Meta | undefined>((m, b) => b.meta ?? m, undefined);
    const strict = batches.some(isUsers) || (meta !== undefined && moved(this.#meta, meta));
    const list = batches.flatMap(({ ended }) => ended?.map(endedRow) ?? []);
    const options = { durability: strict ? "strict" : "relaxed" } as const;
    const write = async (tx: IDBTransaction): Promise<void> => {
      if (this.#owner !== undefined && (await wrap(tx.objectStore("single").get("owner"))) !== this.#owner) {
        throw taken();
      }
      const w = new Writer(tx);
      for (const b of batches) {
        await w.apply(b);
      }
      if (list.length > 0) {
        const n = ++this.#ends;
        tx.objectStore("single").put({ n, list }, ["ended", n % mostEnded]);
      }
      await w.finish();
    };
    try {
      await this.#run(tablesOf(batches), "readwrite", write, options);
    } catch (err) {
      if (storeError(err).kind === "conflict") {
        this.lose(taken());
      }
      throw err;
    }
    this.#meta = meta ?? this.#meta;
  }

  /** Runs f in a transaction, and returns what f has returned once the transaction is complete. */
  async #run<T>(
    names: readonly Table[],
    mode: "readonly" | "readwrite",
    f: (tx: IDBTransaction) => Promise<T>,
    options?: IDBTransactionOptions,
  ): Promise<T> {
    if (this.#lost) {
      throw this.#lost;
    }
    let tx: IDBTransaction | undefined;
    let done: Promise<unknown> = Promise.resolve(undefined);
    try {
      const begun = this.#db.transaction(names, mode, options);
      done = begun.done.then(
        () => undefined,
        (err: unknown) => err,
      );
      tx = unwrap(begun) as IDBTransaction;
      const result = await f(tx);
      const failed = await done;
      if (failed !== undefined) {
        throw failed;
      }
      return result;
    } catch (err) {
      abort(tx);
      // A request of a transaction that fails says only that: why is known of the transaction itself.
      const why = await done;
      const known = why instanceof Error && why.name !== "AbortError" ? why : err;
      throw this.#lost ?? storeError(known);
    }
  }

  /** Runs f in a transaction that only reads. */
  #read<T>(names: readonly Table[], f: (tx: IDBTransaction) => Promise<T>): Promise<T> {
    return this.#run(names, "readonly", f);
  }

  load(): Promise<Snapshot> {
    return this.#read(tables, async (tx) => {
      const all = (name: Table): Promise<unknown[]> => wrap(tx.objectStore(name).getAll());
      const single = (name: string): Promise<unknown> => wrap(tx.objectStore("single").get(name) as IDBRequest<unknown>);
      const former = wrap(tx.objectStore("former").getAllKeys()) as Promise<[ConversationID, string][]>;
      const [meta, networks, keys] = await Promise.all([single("meta"), single("networks"), former]);
      const [rows, outbox, settings] = await Promise.all([all("conversations"), all("outbox"), all("settings")]);
      this.#meta = readMeta(meta);
      const ends = (await wrap<unknown[]>(tx.objectStore("single").getAll(allOf("ended")))).map((row) => {
        const { n } = like("ends", { n: 0 }, row);
        return { n, list: listOf("ends", (row as { list?: unknown }).list, readEnded) };
      });
      ends.sort((a, b) => a.n - b.n);
      this.ended = ends.flatMap(({ list }) => list);
      this.#ends = ends.at(-1)?.n ?? 0;
      const bare: Erasure = { conversation: "", by: "", upTo: 0 };
      return {
        meta: { ...this.#meta },
        conversations: rows.map(readConversation),
        outbox: outbox.map(readOutgoing),
        settings: settings.map(readSetting),
        networks: readNetworks(networks),
        erasures: (await all("erasures")).map((x) => like("erasure", bare, x)),
        former: [...new Set(keys.map(([c]) => c))],
      };
    });
  }

  async conversations(): Promise<ConversationRow[]> {
    const rows = await this.#rows(undefined);
    return rows.sort((a, b) => compareText(a.id, b.id));
  }

  async conversation(id: ConversationID): Promise<ConversationRow | undefined> {
    return (await this.#rows(id))[0];
  }

  #rows(id: ConversationID | undefined): Promise<ConversationRow[]> {
    return this.#read(["conversations", "ends", "entries"], async (tx) => {
      const [rows, list] = await Promise.all([
        wrap<unknown[]>(tx.objectStore("conversations").getAll(id)),
        wrap<End[]>(tx.objectStore("ends").getAll(id)),
      ]);
      const ends = new Map(list.map((end) => [end.c, end]));
      const all = rows.map((stored): ConversationRow => Object.assign(readConversation(stored), { goneAt: 0 }));
      const long: Promise<void>[] = []; // entries that are not in their End
      for (const row of all) {
        const { s = 0, d, gone = 0 } = ends.get(row.id) ?? {};
        row.goneAt = gone;
        if (row.last || s === 0) {
          continue;
        }
        if (d) {
          row.last = readEntry(row.id, d);
        } else {
          long.push(entryAt(tx, row.id, s).then((e) => void (row.last = e)));
        }
      }
      await Promise.all(long);
      return all;
    });
  }

  async entries(c: ConversationID, before: Place | undefined, limit: number): Promise<Entry[]> {
    const from = before && [c, -before.anchor, -before.local, -before.seq];
    const range = from ? IDBKeyRange.bound(from, [c, []], true) : allOf(c);
    const list = await this.#page(range, limit, (tx) => tx.objectStore("entries").index("shown"));
    return list.map(({ d }) => readEntry(c, d)).reverse();
  }

  async range(c: ConversationID, from: Seq, to: Seq, limit: number): Promise<Entry[]> {
    const list = await this.#page(within(c, from, to), limit, (tx) => tx.objectStore("entries"));
    return list.map(({ d }) => readEntry(c, d));
  }

  async since(number: number, limit: number): Promise<Stored[]> {
    const range = IDBKeyRange.lowerBound(number, true);
    const list = await this.#page(range, limit, (tx) => tx.objectStore("entries").index("number"));
    return list.map(({ c, d, n, late }) => ({ entry: readEntry(c, d), number: n ?? 0, late: late ?? false }));
  }

  /** Returns the first limit rows of a range of the entries. */
  async #page(
    range: IDBKeyRange | undefined,
    limit: number,
    from: (tx: IDBTransaction) => IDBObjectStore | IDBIndex,
  ): Promise<EntryRow[]> {
    if (!range || limit <= 0) {
      return [];
    }
    return this.#read(["entries"], (tx) => wrap<EntryRow[]>(from(tx).getAll(range, Math.min(limit, 2 ** 31))));
  }

  below(c: ConversationID, to: Seq, limit: number): Promise<Entry[]> {
    return this.#read(["entries"], async (tx) => {
      const list: Entry[] = [];
      const range = within(c, 0, to);
      let cursor = range && limit > 0 ? await wrap(tx.objectStore("entries")).openCursor(range, "prev") : null;
      while (cursor && list.length < limit) {
        list.push(readEntry(c, (cursor.value as EntryRow).d));
        cursor = list.length < limit ? await cursor.continue() : null;
      }
      return list.reverse();
    });
  }

  former(c: ConversationID, skip: number, limit: number): Promise<Entry[]> {
    return this.#read(["former"], async (tx) => {
      const rows = await wrap<FormerRow[]>(tx.objectStore("former").index("seq").getAll(allOf(c)));
      const some = rows.slice(Math.max(0, skip)).slice(0, Math.max(0, limit));
      return some.map(({ d }) => readEntry(c, d));
    });
  }

  async folds(c: ConversationID, from: Seq, to: Seq): Promise<Fold[]> {
    const range = within(c, from, to);
    const read = (tx: IDBTransaction): Promise<FoldRow[]> => wrap(tx.objectStore("folds").getAll(range));
    return range ? (await this.#read(["folds"], read)).map(({ d }) => readFold(c, d)) : [];
  }
}

/** Returns the entry of a conversation at seq, which is there. */
async function entryAt(tx: IDBTransaction, c: ConversationID, seq: Seq): Promise<Entry> {
  const row = await wrap<EntryRow | undefined>(tx.objectStore("entries").get([c, seq]));
  if (!row) {
    throw corrupt(`end of ${c}`);
  }
  return readEntry(c, row.d);
}

function abort(tx: IDBTransaction | undefined): void {
  try {
    tx?.abort();
  } catch {
    // it has ended already
  }
}

/** Reports whether b has what only this device knows: no server can give it again. */
function isUsers(b: Batch): boolean {
  return [b.outbox, b.remove, b.keep, b.forget, b.rewinds].some((list) => list.length > 0);
}

/** Reports whether a position differs, other than stored, which moves with each entry. */
function moved(was: Meta | undefined, is: Meta): boolean {
  const text = (m: Meta): string => JSON.stringify({ ...m, stored: 0, key: [...m.key] });
  return was === undefined || text(was) !== text(is);
}
