import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { serialize } from "node:v8";
import { openDatabase } from "../src/store/idb.js";
import { Network } from "./fakes.js";
import { setLocks } from "./weblocks.js";

// What a send costs of IndexedDB, counted: milliseconds depend on the machine, and npm run measure prints them.

setLocks(undefined);

/** What was asked of the database. */
interface Cost {
  /** Transactions, in the order in which they were begun, by durability. */
  transactions: string[];
  requests: number;
  /** Of what was written, as structured clones. */
  bytes: number;
}
let cost: Cost;
const noCost = (): Cost => ({ transactions: [], requests: 0, bytes: 0 });

const { transaction } = IDBDatabase.prototype;
IDBDatabase.prototype.transaction = function (this: IDBDatabase, names, mode, options = {}) {
  cost.transactions.push(mode === "readwrite" ? (options.durability ?? "default") : "readonly");
  return transaction.call(this, names, mode, options);
};
const asks = {
  store: ["put", "add", "get", "getAll", "getAllKeys", "delete", "clear", "openCursor"],
  index: ["get", "getAll", "getAllKeys", "openCursor"],
};
const counted = (of: object, name: string): void => {
  const methods = of as Record<string, (...args: unknown[]) => unknown>;
  const real = methods[name];
  assert.ok(real);
  methods[name] = function (this: unknown, ...args: unknown[]) {
    cost.requests++;
    cost.bytes += name === "put" || name === "add" ? serialize(args[0]).length : 0;
    return real.apply(this, args);
  };
};
asks.store.forEach((name) => counted(IDBObjectStore.prototype, name));
asks.index.forEach((name) => counted(IDBIndex.prototype, name));

/** Returns what f costs. */
async function costOf(net: Network, f: () => Promise<unknown>): Promise<Cost> {
  cost = noCost();
  let done = false;
  const doing = f().finally(() => (done = true));
  while (!done) {
    await net.clock.pass(0.01);
  }
  await doing;
  return cost;
}

/** Fails if a cost is above a bound, or if anything was not flushed: what a send changes only this device knows. */
function assertCost(is: Cost, most: { transactions: number; requests: number; bytes: number }): void {
  assert.deepEqual([...new Set(is.transactions)], ["strict"]);
  const said = `${is.transactions.length} transactions, ${is.requests} requests, ${is.bytes} bytes`;
  console.log(said);
  assert.ok(is.transactions.length <= most.transactions && is.requests <= most.requests && is.bytes <= most.bytes, said);
}

test("what a send costs of IndexedDB, alone and among 200", async () => {
  cost = noCost();
  const net = new Network();
  const store = await openDatabase({ user: "alice", device: "phone" });
  const me = await net.open({ store });
  await costOf(net, () => me.synced());
  const chat = me.direct("bob");
  const text = "x".repeat(100);
  const accepted = async (): Promise<void> => void (await chat.sendText(text));
  const answered = async (): Promise<void> => void (await (await chat.sendText(text)).wait());
  const all = (send: () => Promise<void>) => () => Promise.all(Array.from({ length: 200 }, send));
  await costOf(net, answered); // now the device knows the conversation

  assertCost(await costOf(net, answered), { transactions: 2, requests: 13, bytes: 1_700 });
  assertCost(await costOf(net, all(answered)), { transactions: 20, requests: 200 * 5, bytes: 200 * 1_300 });
  await me.setOnline(false);
  assertCost(await costOf(net, accepted), { transactions: 1, requests: 3, bytes: 600 });
  assertCost(await costOf(net, all(accepted)), { transactions: 2, requests: 210, bytes: 200 * 400 });
  assertCost(await costOf(net, accepted), { transactions: 1, requests: 3, bytes: 600 });
  const closed = me.close();
  await net.clock.pass(1);
  await closed;
  await store.close();
});
