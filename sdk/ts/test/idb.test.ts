import "fake-indexeddb/auto";
import { forceCloseDatabase } from "fake-indexeddb";
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { newMeta, newOutgoing, type Outgoing, type SendEvent } from "../src/engine/types.js";
import { EntryKind, kindOf, newClientMessageID, PimError } from "../src/pim/index.js";
import { databaseName, type DatabaseStore, openDatabase } from "../src/store/idb.js";
import { version } from "../src/store/schema.js";
import type { Store } from "../src/store/store.js";
import { direct, entry, rowOf, stored } from "./storemodel.js";
import { batch } from "./storecalls.js";
import { storetest } from "./storetest.js";
import { setLocks, WebLocks } from "./weblocks.js";

let devices = 0;

/** Opens a database that is new the first time. */
function fresh(): () => Promise<DatabaseStore> {
  const device = `device${++devices}`;
  return () => openDatabase({ user: "alice", device });
}

setLocks(undefined);
storetest("IndexedDB without Web Locks", fresh, 2);

/** Transactions that were begun, and the databases that began them. */
const begun: { names: string[]; mode: string; durability: string; db: IDBDatabase }[] = [];
const { transaction } = IDBDatabase.prototype;
IDBDatabase.prototype.transaction = function (this: IDBDatabase, names, mode = "readonly", options = {}) {
  begun.push({ names: [names].flat().map(String), mode, durability: options.durability ?? "", db: this });
  return transaction.call(this, names, mode, options);
};
beforeEach(() => void begun.splice(0));

function message(): Outgoing {
  return newOutgoing({ id: newClientMessageID(), conversation: direct, kind: EntryKind.message });
}

/** Waits until what happens by itself has happened. */
async function until(is: () => boolean): Promise<void> {
  for (let i = 0; i < 300_000 && !is(); i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(is());
}

/** Returns the kind of the error that p is rejected with. */
async function refused(p: Promise<unknown>): Promise<string> {
  try {
    await p;
  } catch (err) {
    assert.ok(err instanceof PimError, String(err));
    return kindOf(err);
  }
  return "not refused";
}

test("what waits together is written together", async () => {
  const s = await fresh()();
  begun.splice(0);
  await Promise.all(Array.from({ length: 100 }, () => s.apply(batch({ outbox: [message()] }))));
  assert.equal(begun.length, 1, "100 sends of one turn");
  const sends: Promise<void>[] = [];
  for (let i = 0; i < 100; i++) {
    sends.push(s.apply(batch({ outbox: [message()] })));
    await Promise.resolve();
  }
  await Promise.all(sends);
  console.log(`200 sends took ${begun.length} transactions`);
  assert.ok(begun.length <= 5, `${begun.length} transactions`);
  assert.equal((await s.load()).outbox.length, 200);
  await s.close();
});

test("the outbox and positions are strict, history is relaxed", async () => {
  const s = await fresh()();
  begun.splice(0);
  const meta = { ...newMeta(), user: "alice" };
  const history = { entries: stored(entry(direct, 1)), conversations: [rowOf(direct)] };
  await s.apply(batch({ meta }));
  await s.apply(batch({ ...history, meta: { ...meta, stored: 1 } }));
  await s.apply(batch({ ...history, meta: { ...meta, stored: 1, ackSerial: 1 } }));
  await s.apply(batch({ outbox: [message()] }));
  await s.apply(batch({ remove: [newClientMessageID()] }));
  await s.apply(batch({ trims: [{ conversation: direct, front: 1, former: 1 }] }));
  assert.deepEqual(
    begun.map((t) => t.durability),
    ["strict", "relaxed", "strict", "strict", "strict", "relaxed"],
  );
  assert.deepEqual(begun[3]?.names.sort(), ["outbox", "single"], "a send does not wait for who reads history");
  await s.close();
});

test("pages, ranges and the list read by index, whatever is stored", async () => {
  const s = await fresh()();
  const all = Array.from({ length: 2_000 }, (_, i) => ({ entry: entry(direct, i + 1), number: i + 1, late: false }));
  await s.apply(batch({ entries: all, conversations: [rowOf(direct)] }));
  let rows = 0;
  for (const source of [IDBObjectStore.prototype, IDBIndex.prototype]) {
    const real = source.getAll;
    source.getAll = function (this: IDBObjectStore & IDBIndex, ...args) {
      const request = real.apply(this, args);
      request.addEventListener("success", () => (rows += request.result.length));
      return request;
    };
  }
  await s.entries(direct, { anchor: 1_000, local: 0, seq: 1_000 }, 10);
  await s.range(direct, 500, 2_000, 10);
  await s.since(1_500, 10);
  await s.conversations();
  assert.equal(rows, 10 + 10 + 10 + 2);
  await s.close();
});

test("if one of those that are written together fails, none is made, nor what waits behind", async () => {
  const s = await fresh()();
  await s.apply(batch({ outbox: [message()] }));
  const bad = { ...message(), payload: (() => 0) as unknown as Uint8Array };
  const calls = [s.apply(batch({ outbox: [message()] })), s.apply(batch({ outbox: [bad] }))];
  await Promise.resolve();
  await Promise.resolve();
  calls.push(s.apply(batch({ outbox: [message()] })));
  assert.deepEqual(await Promise.all(calls.map(refused)), ["internal", "internal", "internal"]);
  assert.equal((await s.load()).outbox.length, 1);
  await s.apply(batch({ outbox: [message()] }));
  assert.equal((await s.load()).outbox.length, 2);
  await s.close();
});

test("no room", async () => {
  const s = await fresh()();
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  assert.equal(await refused(s.apply(batch({ outbox: [message()] }))), "disk_full");
  IDBObjectStore.prototype.put = put;
  await s.apply(batch({ outbox: [message()] }));
  assert.equal((await s.load()).outbox.length, 1);
  await s.close();
});

test("no IndexedDB, or none for this page", async () => {
  const real = indexedDB;
  const set = (value: unknown): void =>
    void Object.defineProperty(globalThis, "indexedDB", { value, configurable: true, writable: true });
  const fails = (name: string) => ({
    open: () => {
      throw new DOMException("no", name);
    },
  });
  set(undefined);
  assert.equal(await refused(fresh()()), "forbidden");
  set(fails("SecurityError"));
  assert.equal(await refused(fresh()()), "forbidden");
  set(fails("InvalidStateError"));
  assert.equal(await refused(fresh()()), "forbidden");
  set(fails("UnknownError"));
  assert.equal(await refused(fresh()()), "unavailable");
  set(real);
});

/** Opens a database as a version of the app does that has another layout. */
function openAs(device: string, wanted: number): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(databaseName("alice", device), wanted);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Returns what a store says when it is lost. */
function lossOf(s: Store): { err?: PimError } {
  const said: { err?: PimError } = {};
  s.onLost?.((err) => {
    said.err = err;
  });
  return said;
}

test("an older tab makes way for a newer one, and does not open what the newer one has made", async () => {
  const s = await openDatabase({ user: "alice", device: "older" });
  const said = lossOf(s);
  const running = s.apply(batch({ outbox: [message()] }));
  await Promise.resolve();
  await Promise.resolve();
  const newer = await openAs("older", version + 1);
  assert.equal(said.err?.kind, "unsupported");
  assert.equal(await refused(running), "not refused", "what runs is finished first");
  assert.equal(await refused(s.apply(batch({}))), "unsupported");
  assert.equal(await refused(s.load()), "unsupported");
  newer.close();
  assert.equal(await refused(openDatabase({ user: "alice", device: "older" })), "unsupported");
});

test("a newer tab waits for an older one that does not make way, and says so", async () => {
  const request = indexedDB.open(databaseName("alice", "blocked"), 1);
  await new Promise((resolve) => (request.onsuccess = resolve));
  request.result.close();
  const real = indexedDB.open.bind(indexedDB);
  const old = await openAs("blocked", 1); // which does not listen to versionchange
  let said: PimError | undefined;
  indexedDB.open = (name) => real(name, 2);
  const opened = openDatabase({ user: "alice", device: "blocked", onBlocked: (err) => (said = err) });
  indexedDB.open = real;
  await until(() => said !== undefined);
  assert.equal(said?.kind, "conflict");
  old.close();
  await (await opened).close();
});

test("a database that is deleted, or closed by the browser, while it is used", async () => {
  const s = await openDatabase({ user: "alice", device: "cleared" });
  const said = lossOf(s);
  indexedDB.deleteDatabase(databaseName("alice", "cleared"));
  await until(() => said.err !== undefined);
  assert.equal(said.err?.kind, "not_found");
  assert.equal(await refused(s.apply(batch({ outbox: [message()] }))), "not_found");
  assert.equal(lossOf(s).err?.kind, "not_found", "whoever asks later hears of it, too");

  const evicted = await fresh()();
  const later = lossOf(evicted);
  await evicted.load();
  const db = begun.at(-1)?.db;
  assert.ok(db);
  forceCloseDatabase(db as never);
  assert.ok(["not_found", "unavailable"].includes(await refused(evicted.apply(batch({ outbox: [message()] })))));
  await until(() => later.err !== undefined);
  assert.equal(later.err?.kind, "not_found");
});

test("rows that are broken", async () => {
  const device = "broken";
  const s = await openDatabase({ user: "alice", device });
  await s.apply(batch({ entries: stored(entry(direct, 1)), conversations: [rowOf(direct)], outbox: [message()] }));
  await s.close();
  const db = await openAs(device, version);
  const break_ = async (table: string, change: (row: Record<string, unknown>) => void): Promise<void> => {
    const tx = db.transaction(table, "readwrite");
    const request = tx.objectStore(table).getAll();
    await new Promise((resolve) => (request.onsuccess = resolve));
    for (const row of request.result as Record<string, unknown>[]) {
      change(row);
      tx.objectStore(table).put(row);
    }
    await new Promise((resolve) => (tx.oncomplete = resolve));
  };
  const open = (): Promise<Store> => openDatabase({ user: "alice", device });
  await break_("entries", (row) => (row["d"] = Uint8Array.of(255)));
  assert.equal(await refused((await open()).entries(direct, undefined, 9)), "corrupt");
  await break_("ends", (row) => (row["d"] = "text"));
  assert.equal(await refused((await open()).conversations()), "corrupt");
  await break_("outbox", (row) => (row["number"] = "seven"));
  assert.equal(await refused((await open()).load()), "corrupt");
  db.close();
});

test("what became of messages is stored with their leaving the outbox, and kept for a while", async () => {
  const open = fresh();
  const s = await open();
  const bare = { seq: 7, anchor: 5, server: 1, ahead: 0, order: 2, count: 3, allCount: 1, duplicate: true, strangers: ["eve"] };
  const of = (n: number): SendEvent => ({ type: "send", id: `${n}`, conversation: direct, state: "sent" });
  const some: SendEvent[] = [
    { ...of(1), sent: { conversation: direct, ...bare } },
    { ...of(2), state: "failed", err: new PimError("forbidden", "no", { op: "pin" }) },
    { ...of(3), state: "superseded", by: "4" },
    { ...of(3), state: "discarded" },
  ];
  await Promise.all(some.map((ev) => s.apply({ ...batch({ remove: [ev.id] }), ended: [ev] })));
  await s.close();
  const next = await open();
  assert.deepEqual(next.ended, []);
  await next.load();
  assert.deepEqual(next.ended, some);
  for (let n = 10; n < 110; n++) {
    await next.apply({ ...batch({ remove: [`${n}`] }), ended: [of(n), of(n + 1000)] });
  }
  await next.close();
  const last = await open();
  await last.load();
  const left = Array.from({ length: 64 }, (_, i) => [of(46 + i), of(1046 + i)]).flat();
  assert.deepEqual(last.ended, left);
  await last.close();

  const db = await openAs(`device${devices}`, version);
  const tx = db.transaction("single", "readwrite");
  tx.objectStore("single").put({ n: 200, list: [{ ...of(1), state: 7 }] }, ["ended", 1]);
  await new Promise((resolve) => (tx.oncomplete = resolve));
  db.close();
  const broken = await open();
  assert.equal(await refused(broken.load()), "corrupt");
  await broken.close();
});

test("the last claim holds where there are no Web Locks", async () => {
  const open = fresh();
  const [one, other] = [await open(), await open()];
  const said = lossOf(one);
  await one.claim();
  await one.apply(batch({ outbox: [message()] }));
  await other.claim();
  assert.equal(await refused(one.apply(batch({ outbox: [message()] }))), "conflict");
  assert.equal(said.err?.kind, "conflict");
  assert.equal((await other.load()).outbox.length, 1);
  await other.close();
});

test("a Web Lock keeps a second tab from the claim, until the first is gone", async () => {
  const before = Date.now();
  const locks = new WebLocks();
  const open = fresh();
  setLocks(locks.of("one"));
  const one = await open();
  const release = await one.claim();
  const name = databaseName("alice", `device${devices}`);
  assert.equal(locks.holder(name), "one");
  setLocks(locks.of("other"));
  const other = await open();
  assert.equal(await refused(other.claim()), "conflict");
  release();
  await until(() => locks.holder(name) === undefined);
  await other.claim();
  assert.ok(other.term > one.term);
  assert.ok(one.term >= before, "greater than terms of a database that was deleted");
  assert.deepEqual([one.fresh, other.fresh], [true, false]);
  locks.kill("other");
  setLocks(locks.of("third"));
  await (await open()).claim();
  assert.equal(locks.holder(name), "third");
  setLocks(undefined);
});

test("the suite's claims with Web Locks", async () => {
  setLocks(new WebLocks().of("tab"));
  const s = await fresh()();
  for (let i = 0; i < 3; i++) {
    const release = await s.claim();
    assert.equal(await refused(s.claim()), "conflict");
    release();
    release();
  }
  setLocks(undefined);
  await s.close();
});
