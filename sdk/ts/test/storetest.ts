// The suite that every Store passes: the cases of client/storetest, and random batches that are compared with a plain model.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Fold as StoredFold,
  type Hole,
  newMeta,
  newOutgoing,
  newSnapshot,
  type Setting,
  type Stored,
} from "../src/engine/types.js";
import {
  CommandKind,
  type ConversationID,
  emptyFold,
  type Entry,
  EntryKind,
  kindOf,
  makeCommand,
  own,
  PimError,
  placeOf,
  comparePlaces,
  type Seq,
} from "../src/pim/index.js";
import { noBytes, utf8 } from "../src/pim/text.js";
import type { ConversationRow } from "../src/store/store.js";
import { direct, entry, group, randomBatches, rowOf, stored } from "./storemodel.js";
import { firstSeed } from "./random.js";
import { apply, load, type Open, reopen, seqs } from "./storecalls.js";
import { testErase, testFolds, testFoldsRewind, testRecall } from "./storefolds.js";

const most = Number.MAX_SAFE_INTEGER;

/**
 * Runs the suite. It calls fresh once for each test. lasting says that what was applied outlives close. schedules are the random
 * ones that are run.
 */
export function storetest(name: string, fresh: () => Open, schedules = 10): void {
  const tests: Record<string, (open: Open) => Promise<void>> = {
    "a new store is empty": testNew,
    "everything but the entries is loaded as it was last written": testSnapshot,
    "every number that a server may send is kept": testAnyNumber,
    "settings are kept by entity, networks are replaced as a whole": testSettings,
    "a message stays in the outbox until it is removed": testOutbox,
    "kinds and fields of a later version come back as they were stored": testLaterVersion,
    "the last entries come in display order": testDisplayOrder,
    "pages go back in display order, from any place": testPages,
    "an entry that comes again changes nothing": testRepeated,
    "a range goes up by seq, whatever the display order": testRange,
    "entries come in the order of their numbers, over all conversations": testSince,
    "a conversation has its last entry": testConversations,
    "a conversation is taken back": testRewind,
    "retention takes what is below a front": testTrim,
    "folds are merged, in whatever order they come": testFolds,
    "a recall erases its message and the edits": testRecall,
    "folds go that have anything of what is taken back": testFoldsRewind,
    "an erasure takes what a user wrote": testErase,
    "reads run beside writes, and see whole batches": testConcurrent,
    "calls of apply that wait are made in their order": testWaiting,
    "one client at a time has the claim": testClaim,
    "after close everything is refused, or can be used again": testClosed,
  };
  describe(name, { timeout: 600_000 }, () => {
    for (const [what, run] of Object.entries(tests)) {
      test(what, () => run(fresh()));
    }
    test("random batches come to what a plain model says", async () => {
      const seed = firstSeed();
      for (let i = 0; i < schedules; i++) {
        await randomBatches(seed + i, fresh());
      }
    });
  });
}

async function testNew(open: Open): Promise<void> {
  const s = await open();
  assert.deepEqual(await s.load(), newSnapshot());
  assert.deepEqual(await s.entries(direct, undefined, 10), []);
  assert.equal(await s.conversation(direct), undefined);
  await s.close();
}

async function testSnapshot(open: Open): Promise<void> {
  let s = await open();
  const meta = {
    ...{ user: "[]`_^{|}-", device: "phone", ackSerial: 7, fullSync: true, lastLocal: 2 ** 50, number: 9, stored: 12 },
    ...{ confirms: true, confirmed: 11, key: Uint8Array.of(0, 9, 255), store: "0f1e", heard: 6, doubt: true },
  };
  const holes: Hole[] = [
    { from: 1, to: 7, lazy: true },
    { from: 100, to: 200, lazy: false },
  ];
  const first = rowOf(direct, { known: 300, newest: 500, count: 4, own: 299, ownCount: 3, holes, folded: 290, stale: 280 });
  const list = [{ ...first, mentioned: { named: 4, all: 3 }, ownAll: 2 }, rowOf(group, { known: 2, newest: 2, left: true })];
  await apply(s, { meta: { ...newMeta(), user: "old" }, conversations: [rowOf(direct, { known: 1, newest: 9 })] });
  await apply(s, { meta, conversations: list });
  await apply(s, {}); // changes nothing
  s = await reopen(s, open);
  const got = await load(s);
  assert.deepEqual(got.meta, meta);
  assert.deepEqual(got.conversations, list);
  await apply(s, { conversations: [{ ...first, holes: [] }] });
  assert.deepEqual((await load(s)).conversations[0], { ...first, holes: [] });
  await s.close();
}

async function testAnyNumber(open: Open): Promise<void> {
  let s = await open();
  const meta = { ...newMeta(), user: "alice", ackSerial: most, lastLocal: -most, number: 1, stored: most, heard: most };
  const counts = { newest: most, count: most - 1, own: most, ownCount: most, folded: most, stale: most, ownAll: most };
  const row = rowOf(direct, { ...counts, known: 3, mentioned: { named: most, all: most } });
  const command = makeCommand({ kind: CommandKind.read, subject: group, seq: most, count: most });
  const setting: Setting = { ...command, entity: "read/g:abc", at: most, deleted: 0, by: "" };
  await apply(s, { meta, conversations: [row], settings: [setting] });
  s = await reopen(s, open);
  const got = await load(s);
  assert.deepEqual([got.meta, got.conversations, got.settings], [meta, [row], [setting]]);
  assert.deepEqual(await s.conversations(), [{ ...row, goneAt: 0 }]);
  await s.close();
}

async function testSettings(open: Open): Promise<void> {
  let s = await open();
  const bob: Setting = {
    ...{ entity: "contact/bob", at: 3, deleted: 0, by: "" },
    ...makeCommand({ kind: CommandKind.contact, subject: "bob", value: utf8("Bob\0"), known: 2 }),
  };
  const gone: Setting = {
    ...{ entity: "contact/eve", at: 4, deleted: 4, by: "phone" },
    ...makeCommand({ kind: CommandKind.contact, subject: "eve", removed: true }),
  };
  const muted: Setting = {
    ...{ entity: "mute/g:abc", at: 5, deleted: 0, by: "" },
    ...makeCommand({ kind: CommandKind.mute, subject: group, until: 2 ** 50 }),
  };
  const home = { name: "wifi/home", every: 250e9, stable: true, used: 7 };
  await apply(s, { settings: [bob, gone], networks: [{ name: "", every: 60e9, stable: false, used: 0 }, home] });
  const robert: Setting = { ...bob, value: utf8("Robert"), at: 6 };
  await apply(s, { settings: [muted, robert] });
  s = await reopen(s, open);
  const got = await load(s);
  assert.deepEqual(got.settings, [robert, gone, muted]);
  assert.equal(got.networks.length, 2);
  await apply(s, { networks: [home] });
  assert.deepEqual((await load(s)).networks, [home]);
  await s.close();
}

/** Returns a client message ID. */
function id(n: number): string {
  return `${n.toString(16).padStart(8, "0")}-0000-0000-0000-000000000000`;
}

async function testOutbox(open: Open): Promise<void> {
  let s = await open();
  const message = { kind: EntryKind.message, conversation: direct };
  const a = newOutgoing({ ...message, id: id(1), number: 1, payload: Uint8Array.of(0, 255), refers: 7, reaction: "👍" });
  const b = newOutgoing({ id: id(2), number: 2, conversation: "", kind: EntryKind.create, members: ["bob", "carol|"] });
  const gone = newOutgoing({ ...message, id: id(3), number: 3, conversation: group, payload: utf8("x") });
  await apply(s, { outbox: [gone, a] });
  const later = {
    ...a,
    removed: true,
    retain: 9,
    local: 5,
    first: 3,
    queued: 4,
    again: true,
    mentions: ["bob"],
    mentionAll: true,
  };
  const failed = { ...b, failed: new PimError("forbidden", "blocked", { op: "send" }) };
  await apply(s, { outbox: [failed, later], remove: [gone.id, id(99)] });
  s = await reopen(s, open);
  const got = (await load(s)).outbox;
  assert.deepEqual(got, [later, failed]);
  assert.ok(got[1]?.failed instanceof PimError);
  await apply(s, { outbox: [{ ...b, number: 7 }] });
  assert.deepEqual((await load(s)).outbox, [later, { ...b, number: 7 }]);
  await s.close();
}

async function testLaterVersion(open: Open): Promise<void> {
  let s = await open();
  const unknown = Uint8Array.of(0x98, 0x75, 7);
  const e = { ...entry(direct, 1), kind: 300, members: ["bob"], unknown };
  const folder: Setting = {
    ...{ entity: "60/work", at: 3, deleted: 0, by: "" },
    ...makeCommand({ kind: 60, subject: "work", value: utf8("Work"), unknown }),
  };
  const mute: Setting = {
    ...{ entity: "mute/g:abc", at: 4, deleted: 0, by: "" }, // which has no value in this version
    ...makeCommand({ kind: CommandKind.mute, subject: group, value: utf8("softly"), unknown }),
  };
  const out = newOutgoing({ id: id(1), number: 1, conversation: direct, kind: 300, payload: utf8("x") });
  const row = rowOf(direct, { known: 1, newest: 1, last: e });
  await apply(s, { entries: stored(e), settings: [folder, mute], outbox: [out], conversations: [row] });
  s = await reopen(s, open);
  const got = await load(s);
  assert.deepEqual(got.settings, [folder, mute]);
  assert.deepEqual(got.outbox, [out]);
  assert.deepEqual(await s.entries(direct, undefined, 10), [e]);
  assert.deepEqual((await s.conversation(direct))?.last, e);
  await s.close();
}

async function testDisplayOrder(open: Open): Promise<void> {
  let s = await open();
  const late = { ...entry(direct, 4, 2, 899_000), members: ["dave"] }; // sent before 2, resent later
  await apply(s, { entries: stored(entry(direct, 1, 1, 999_000), entry(direct, 2, 2, 900_000), entry(group, 1, 1, 5)) });
  await apply(s, { entries: stored(entry(direct, 3, 3, 900_001), late) });
  s = await reopen(s, open);
  const want = [[], [3], [2, 3], [4, 2, 3], [1, 4, 2, 3], [1, 4, 2, 3]];
  for (const [limit, last] of want.entries()) {
    const list = await s.entries(direct, undefined, limit);
    assert.deepEqual(seqs(list), last, `the last ${limit}`);
    assert.ok(list.every((e) => e.seq !== 4 || comparePlaces(placeOf(e), placeOf(late)) === 0));
  }
  assert.deepEqual((await s.entries(direct, undefined, 9))[1], late);
  await s.close();
}

async function testPages(open: Open): Promise<void> {
  const s = await open();
  const all: Entry[] = [];
  for (let seq = 1; seq <= 20; seq++) {
    all.push(entry(direct, seq, seq - ((seq - 1) % 3), 900_000 - ((seq - 1) % 2)));
  }
  await apply(s, { entries: stored(...all, entry("d:alice:bob2", 1), entry("d:alice:bo", 1)) });
  all.sort((a, b) => comparePlaces(placeOf(a), placeOf(b)));
  const got: Entry[] = [];
  for (;;) {
    const page = await s.entries(direct, got[0] && placeOf(got[0]), 3);
    got.unshift(...page);
    if (page.length === 0) {
      break;
    }
  }
  assert.deepEqual(got, all);
  await s.close();
}

async function testRepeated(open: Open): Promise<void> {
  const s = await open();
  const e = entry(direct, 1);
  await apply(s, { entries: stored(e) });
  await apply(s, { entries: stored(e, entry(direct, 2), e) });
  assert.deepEqual(seqs(await s.entries(direct, undefined, 10)), [1, 2]);
  await s.close();
}

async function testRange(open: Open): Promise<void> {
  const s = await open();
  const some = [entry(direct, 1, 1, 5), entry(direct, 2, 1, 4), entry(direct, 4, 2, 3), entry(direct, 7, 1, 1)];
  await apply(s, { entries: stored(...some, entry(group, 3, 3, 1)) });
  const cases: [Seq, Seq, number, Seq[]][] = [
    [1, most, 10, [1, 2, 4, 7]],
    [0, most, 2, [1, 2]],
    [3, 6, 10, [4]],
    [2, 7, 3, [2, 4, 7]],
    [8, most, 10, []],
    [5, 4, 10, []],
    [1, 7, 0, []],
    [1, 7, -1, []],
  ];
  for (const [from, to, limit, want] of cases) {
    assert.deepEqual(seqs(await s.range(direct, from, to, limit)), want, `${from} to ${to}, at most ${limit}`);
  }
  assert.deepEqual(await s.range("g:unknown", 1, 9, 9), []);
  await s.close();
}

async function testSince(open: Open): Promise<void> {
  let s = await open();
  const one: Stored = { number: 1, entry: entry(direct, 9, 9, 5), late: false };
  const two: Stored = { number: 2, entry: entry(group, 1, 1, 5), late: false };
  const three: Stored = { number: 3, entry: entry(direct, 4, 1, 1), late: true };
  const five: Stored = { number: 5, entry: entry(direct, 10, 10, 9), late: false };
  await apply(s, { entries: stored(entry(direct, 1)) });
  await apply(s, { entries: [one, two, three] });
  await apply(s, { entries: [{ ...one, number: 4 }, five] }); // an entry that is there keeps its number
  s = await reopen(s, open);
  const cases: [number, number, Stored[]][] = [
    [0, 10, [one, two, three, five]],
    [0, 2, [one, two]],
    [2, 2, [three, five]],
    [4, 9, [five]],
    [5, 9, []],
    [most, 9, []],
    [0, 0, []],
    [0, -1, []],
  ];
  for (const [number, limit, want] of cases) {
    assert.deepEqual(await s.since(number, limit), want, `after ${number}, at most ${limit}`);
  }
  await s.close();
}

async function testConversations(open: Open): Promise<void> {
  let s = await open();
  const cut = entry(direct, 9);
  const late = { ...entry(group, 3, 1), payload: new Uint8Array(5_000).fill(7) };
  const ofGroup = rowOf(group, { known: 3, newest: 3, count: 3 });
  const ofDirect = rowOf(direct, { known: 1, newest: 9, count: 9, last: cut, lastCut: true });
  await apply(s, {
    conversations: [ofGroup, ofDirect],
    entries: stored(entry(direct, 1), entry(group, 1), entry(group, 2), late),
  });
  s = await reopen(s, open);
  const want: ConversationRow[] = [
    { ...ofDirect, goneAt: 0 },
    { ...ofGroup, last: late, goneAt: 0 },
  ];
  assert.deepEqual(await s.conversations(), want);
  assert.deepEqual([await s.conversation(direct), await s.conversation(group)], want);
  assert.equal(await s.conversation("g:unknown"), undefined);
  await apply(s, { conversations: [rowOf(direct, { known: 1, newest: 1, count: 1 })] });
  assert.deepEqual((await s.conversations())[0]?.last, entry(direct, 1), "after the summary was dropped");
  const recall = { seq: 4, by: "alice", time: 1, removed: false };
  await apply(s, { folds: [{ conversation: group, fold: { ...emptyFold(3), recall } }] });
  assert.deepEqual((await s.conversation(group))?.last, { ...late, payload: noBytes, erased: true }, "after it was recalled");
  await apply(s, { erasures: [{ conversation: direct, by: "alice", upTo: 1 }] });
  assert.equal((await s.conversation(direct))?.last?.erased, true, "after it was erased");
  await s.close();
}

async function testRewind(open: Open): Promise<void> {
  let s = await open();
  const entries = [1, 2, 3, 4, 5, 6].map((seq): Stored => {
    const sender = seq % 2 === 0 ? "bob" : "alice";
    return { number: seq, late: false, entry: { ...entry(direct, seq, seq, 900_000), sender } };
  });
  const set: Setting = {
    ...{ entity: "pin/g:abc", at: 1, deleted: 0, by: "" },
    ...makeCommand({ kind: CommandKind.pin, subject: group }),
  };
  await apply(s, { entries: [...entries, { entry: entry(group, 9), number: 7, late: false }], settings: [set] });
  const below = async (to: Seq, limit: number): Promise<Seq[]> => seqs(await s.below(direct, to, limit));
  assert.deepEqual(await below(4, 2), [3, 4]);
  assert.deepEqual(await below(99, 10), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(await below(most, 2), [5, 6]);
  assert.deepEqual(await below(0, 10), []);
  assert.deepEqual(await below(9, 0), []);

  const again = { ...entry(direct, 3, 3, 900_001), clientID: id(9) }; // in the same transaction
  const rewind = { conversation: direct, after: 2, sender: "alice" };
  await apply(s, { rewinds: [rewind], entries: [{ entry: again, number: 8, late: false }] });
  s = await reopen(s, open);
  const former = async (skip: number, limit: number): Promise<Seq[]> => seqs(await s.former(direct, skip, limit));
  assert.deepEqual(await below(99, 10), [1, 2, 3]);
  assert.deepEqual((await s.below(direct, 3, 1))[0]?.clientID, again.clientID);
  assert.deepEqual(await former(0, 10), [3, 5]);
  assert.deepEqual(await former(1, 10), [5]);
  assert.deepEqual(await former(0, 1), [3]);
  assert.deepEqual((await load(s)).former, [direct]);
  assert.deepEqual(seqs(await s.below(group, 99, 10)), [9]);
  assert.deepEqual((await load(s)).settings, [set]);
  assert.deepEqual(
    (await s.since(0, 99)).map((e) => e.number),
    [1, 2, 7, 8],
  );

  const forget = [
    { conversation: direct, id: entry(direct, 3).clientID },
    { conversation: group, id: id(1) },
  ];
  await apply(s, { forget });
  assert.deepEqual(await former(0, 10), [5]);
  const ownLog = { conversation: own("alice"), after: 0, sender: "alice" };
  await apply(s, { rewinds: [{ ...rewind, after: 0 }, ownLog] });
  assert.deepEqual(await below(99, 10), []);
  assert.deepEqual(await former(0, 10), [1, 3, 5]);
  assert.deepEqual((await load(s)).settings, [], "settings that follow from the own log");
  await apply(s, { keep: [entry(direct, 8), entry(group, 2)] });
  assert.deepEqual(await former(0, 10), [1, 3, 5, 8]);
  await apply(s, { forget: [{ conversation: direct }, { conversation: group }] });
  assert.deepEqual((await load(s)).former, []);
  await s.close();
}

async function testTrim(open: Open): Promise<void> {
  let s = await open();
  const entries = [1, 2, 3, 4, 5].map((seq): Stored => {
    return { number: seq, late: false, entry: { ...entry(direct, seq, seq, 900_000), server: 1_000_000 + seq } };
  });
  const edit = { seq: 5, by: "", time: 0, payload: utf8("x") };
  const fold = (target: Seq): StoredFold => ({ conversation: direct, fold: { ...emptyFold(target), upto: 5, edit } });
  const row = rowOf(direct, { known: 5, newest: 5, count: 5, lost: 4 });
  await apply(s, {
    conversations: [row, rowOf(group, { known: 1, newest: 1 })],
    entries: [...entries, { entry: entry(group, 1), number: 6, late: false }],
    folds: [fold(1), fold(4)],
    keep: [entry(direct, 7), entry(direct, 3), entry(group, 3)],
  });
  const look = async (): Promise<unknown> => {
    const targets = (await s.folds(direct, 1, 99)).map((f) => f.target);
    const former = seqs(await s.former(direct, 0, 10));
    const got = await s.conversation(direct);
    const ends = [got?.front, got?.lost, got?.last?.seq, got?.goneAt];
    return [seqs(await s.below(direct, 99, 10)), targets, former, seqs(await s.below(group, 99, 10)), ends];
  };
  assert.deepEqual(await look(), [[1, 2, 3, 4, 5], [1, 4], [3, 7], [1], [0, 4, 5, 0]]);
  const late = { entry: entry(direct, 2), number: 7, late: false }; // in the same transaction
  await apply(s, {
    conversations: [{ ...row, front: 4 }],
    ...{ entries: [late], folds: [fold(2)], trims: [{ conversation: direct, front: 4, former: 4 }] },
  });
  assert.deepEqual(await look(), [[4, 5], [4], [7], [1], [4, 4, 5, 1_000_003]]);
  const bare = { ...row, front: 6, lost: 0 };
  await apply(s, { conversations: [bare], trims: [{ conversation: direct, front: 6, former: 8 }] });
  s = await reopen(s, open);
  assert.deepEqual(await look(), [[], [], [], [1], [6, 0, undefined, 1_000_005]]);
  assert.deepEqual((await load(s)).former, [group]);
  await apply(s, { conversations: [{ ...bare, known: 9 }] }); // which says nothing of goneAt
  assert.deepEqual(await look(), [[], [], [], [1], [6, 0, undefined, 1_000_005]]);
  await s.close();
}

async function testConcurrent(open: Open): Promise<void> {
  const s = await open();
  const read = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      const list = await s.entries(direct, undefined, 1000);
      assert.equal(list.length % 2, 0, "half a batch");
    }
  };
  const reads = [read(), read()];
  for (let seq = 1; seq < 40; seq += 2) {
    await apply(s, { entries: stored(entry(direct, seq), entry(direct, seq + 1)) });
    assert.equal((await s.below(direct, most, 100)).length, seq + 1);
  }
  await Promise.all(reads);
  await s.close();
}

async function testWaiting(open: Open): Promise<void> {
  let s = await open();
  const message = newOutgoing({ id: id(1), conversation: direct as ConversationID, kind: EntryKind.message });
  const calls: Promise<void>[] = [];
  for (let number = 1; number <= 50; number++) {
    calls.push(apply(s, { outbox: [{ ...message, number }], remove: number % 7 === 0 ? [message.id] : [] }));
  }
  await calls[9];
  assert.ok((await load(s)).outbox.every((m) => m.number >= 10));
  await Promise.all(calls.slice(0, 50));
  assert.deepEqual((await load(s)).outbox, [{ ...message, number: 50 }]);
  void apply(s, { remove: [message.id] });
  s = await reopen(s, open); // close writes it first
  assert.deepEqual((await load(s)).outbox, []);
  await s.close();
}

async function testClaim(open: Open): Promise<void> {
  const s = await open();
  const conflict = (err: unknown): boolean => kindOf(err) === "conflict";
  for (let i = 0; i < 2; i++) {
    const release = await s.claim();
    await assert.rejects(s.claim(), conflict);
    release();
    release(); // has no effect
  }
  const release = await s.claim();
  release();
  await s.close();
}

async function testClosed(open: Open): Promise<void> {
  const s = await open();
  await s.close();
  await s.close();
  const unavailable = (err: unknown): true => {
    assert.equal(kindOf(err), "unavailable");
    return true;
  };
  await s.load().then((got) => assert.deepEqual(got, newSnapshot()), unavailable);
  await apply(s, {}).catch(unavailable);
  await s.entries(direct, undefined, 1).catch(unavailable);
}
