import assert from "node:assert/strict";
import { test } from "node:test";
import { Memory } from "../src/store/memory.js";
import { direct, entry, rowOf } from "./storemodel.js";
import { batch } from "./storecalls.js";
import { storetest } from "./storetest.js";

storetest("Memory", () => {
  const m = new Memory();
  return async () => m;
});

test("positions only: no entries are kept", async () => {
  const m = new Memory({ positionsOnly: true });
  const entries = [{ entry: entry(direct, 1), number: 1, late: false }];
  await m.apply(batch({ conversations: [rowOf(direct, { known: 1, newest: 1 })], entries }));
  assert.deepEqual(await m.entries(direct, undefined, 10), []);
  assert.deepEqual(await m.since(0, 10), []);
  assert.equal((await m.load()).conversations[0]?.known, 1);
});
