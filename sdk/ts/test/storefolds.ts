// The part of the suite of stores that is about what entries make of messages: folds, recalls, erasures.
import assert from "node:assert/strict";
import type { Erasure, Fold as StoredFold } from "../src/engine/types.js";
import { emptyFold, type Entry, EntryKind, type Fold, foldOf, mergeFolds, type Seq, type UserID } from "../src/pim/index.js";
import { noBytes } from "../src/pim/text.js";
import { apply, load, type Open, reopen, seqs } from "./storecalls.js";
import { direct, entry, group, stored } from "./storemodel.js";

const most = Number.MAX_SAFE_INTEGER;

/** Returns an entry that refers to the message at target. */
function referring(kind: EntryKind, seq: Seq, target: Seq, fields: Partial<Entry> = {}): Entry {
  const bare = kind === EntryKind.recall || kind === EntryKind.pin || kind === EntryKind.erase;
  const reaction = kind === EntryKind.reaction ? { payload: noBytes, reaction: "👍" } : {};
  return { ...entry(direct, seq), kind, refers: target, ...(bare ? { payload: noBytes } : {}), ...reaction, ...fields };
}

/** Returns what e alone makes of its message. */
function storedFold(e: Entry): StoredFold {
  const fold = foldOf(e);
  assert.ok(fold);
  return { conversation: e.conversation, fold };
}

export async function testFolds(open: Open): Promise<void> {
  const last = storedFold(referring(EntryKind.edit, 5, 2));
  const parts = [
    storedFold(referring(EntryKind.edit, 4, 2)),
    last,
    storedFold(referring(EntryKind.reaction, 6, 2)),
    storedFold(referring(EntryKind.reaction, 7, 2, { removed: true })),
    storedFold(referring(EntryKind.pin, 8, 2)),
    { conversation: direct, fold: { ...emptyFold(2), upto: 5, edit: last.fold.edit } },
  ];
  const want = parts.reduce((f, p) => mergeFolds(f, p.fold), emptyFold(2));
  const pin = { seq: 12, by: "bob", time: 5, removed: false };
  const other: StoredFold = { conversation: direct, fold: { ...emptyFold(9), upto: 12, pin } };
  let s = await open();
  await apply(s, { folds: [{ conversation: group, fold: last.fold }] });
  parts.reverse();
  await apply(s, { folds: [...parts.slice(0, 3), other] });
  s = await reopen(s, open);
  await apply(s, { folds: parts.slice(2) });
  assert.deepEqual(await s.folds(direct, 1, most), [want, other.fold]);
  assert.deepEqual(await s.folds(direct, 2, 8), [want]);
  assert.deepEqual(await s.folds(direct, 3, 8), []);
  assert.deepEqual(await s.folds(direct, 8, 3), []);
  assert.deepEqual(await s.folds("g:unknown", 1, 9), []);
  await s.close();
}

export async function testRecall(open: Open): Promise<void> {
  let s = await open();
  const early = referring(EntryKind.edit, 4, 2);
  const late = referring(EntryKind.edit, 5, 2);
  const other = referring(EntryKind.edit, 6, 3);
  const recall = referring(EntryKind.recall, 7, 2);
  await apply(s, { entries: stored(entry(direct, 2), early), folds: [storedFold(early)] });
  await apply(s, { entries: stored(entry(direct, 3), other, recall), folds: [storedFold(recall), storedFold(other)] });
  await apply(s, { entries: stored(late), folds: [storedFold(late)] });
  const first = referring(EntryKind.recall, 9, 1); // before the message is there
  await apply(s, { entries: stored(first), folds: [storedFold(first)] });
  await apply(s, { entries: stored(entry(direct, 1)) });
  s = await reopen(s, open);
  const want = [1, 2, 3, 4, 5, 6, 7, 9].map((seq) => {
    const erased = [1, 2, 4, 5].includes(seq);
    const none = erased || seq === 7 || seq === 9;
    return { seq, erased, payload: none ? noBytes : entry(direct, seq).payload };
  });
  const got = (await s.range(direct, 1, 9, 9)).map(({ seq, erased, payload }) => ({ seq, erased, payload }));
  assert.deepEqual(got, want);
  assert.deepEqual(await s.folds(direct, 2, 2), [storedFold(recall).fold]);
  await s.close();
}

export async function testFoldsRewind(open: Open): Promise<void> {
  let s = await open();
  const gone = referring(EntryKind.reaction, 9, 2);
  const erased = { ...entry(direct, 11), payload: noBytes, erased: true };
  const pin = { seq: 6, by: "bob", time: 0, removed: false };
  const stays = storedFold(referring(EntryKind.edit, 4, 1));
  const elsewhere: StoredFold = { conversation: group, fold: storedFold(gone).fold };
  const third: StoredFold = { conversation: direct, fold: { ...emptyFold(3), upto: 8, pin } };
  await apply(s, { keep: [referring(EntryKind.edit, 12, 11)] }); // since an earlier time
  await apply(s, {
    folds: [stays, storedFold(referring(EntryKind.edit, 5, 2)), storedFold(gone), third, elsewhere],
    entries: stored(referring(EntryKind.edit, 8, 2), referring(EntryKind.edit, 9, 8), entry(direct, 10), erased),
  });
  await apply(s, { rewinds: [{ conversation: direct, after: 7, sender: "alice" }] });
  s = await reopen(s, open);
  assert.deepEqual(await s.folds(direct, 1, 99), [stays.fold]);
  assert.deepEqual(await s.folds(group, 1, 99), [elsewhere.fold]);
  assert.deepEqual(seqs(await s.former(direct, 0, 10)), [8, 10]); // 9 and 12 refer to messages that are lost
  await s.close();
}

export async function testErase(open: Open): Promise<void> {
  let s = await open();
  const edit = referring(EntryKind.edit, 5, 1);
  const reaction = referring(EntryKind.reaction, 6, 1);
  const others = referring(EntryKind.edit, 7, 2, { sender: "bob" });
  const late = referring(EntryKind.edit, 9, 8);
  const bobs = { ...entry(direct, 2), sender: "bob" };
  await apply(s, {
    entries: stored(entry(direct, 1), bobs, edit, reaction, others, entry(direct, 8), late, entry(group, 1)),
    folds: [edit, reaction, others, late].map(storedFold),
  });
  const erase = referring(EntryKind.erase, 10, 4);
  const erasure = (by: UserID, upTo: Seq): Erasure => ({ conversation: direct, by, upTo });
  await apply(s, { entries: stored(entry(direct, 3), erase), erasures: [erasure("alice", 4)] });
  await apply(s, { entries: stored(entry(direct, 4)) }); // the engine would have erased it
  s = await reopen(s, open);
  const check = async (erased: Seq[], folds: Fold[]): Promise<void> => {
    const list = await s.range(direct, 1, 10, 10);
    assert.deepEqual(seqs(list), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.deepEqual(seqs(list.filter((e) => e.erased)), erased);
    assert.ok(list.every((e) => e.erased === (e.payload.length === 0) || e.seq === 6 || e.seq === 10));
    assert.deepEqual(await s.folds(direct, 1, 9), folds);
    assert.equal((await s.range(group, 1, 1, 1))[0]?.erased, false);
  };
  await check([1, 3, 5], [storedFold(reaction).fold, storedFold(others).fold, storedFold(late).fold]);
  assert.deepEqual((await load(s)).erasures, [erasure("alice", 4)]);

  await apply(s, { erasures: [erasure("alice", 9), erasure("bob", 2)] });
  await check([1, 2, 3, 4, 5, 7, 8, 9], [storedFold(reaction).fold, emptyFold(2), emptyFold(8)]);
  const rewind = { conversation: direct, after: 9, sender: "alice" };
  await apply(s, { keep: [erase], rewinds: [rewind], erasures: [erasure("alice", 3)] }); // the server has gone back
  await apply(s, { rewinds: [{ ...rewind, after: 3 }] });
  s = await reopen(s, open);
  assert.deepEqual((await load(s)).erasures, [erasure("alice", 3), erasure("bob", 2)]);
  const former = await s.former(direct, 0, 10);
  assert.deepEqual(seqs(former), [6, 10]);
  assert.equal(former[1]?.refers, 3); // the erase is of what is left
  await s.close();
}
