// Random batches, and a plain model of what they come to: lists, of which everything is found by looking at all of it.
import assert from "node:assert/strict";
import { newBatch } from "../src/engine/io.js";
import {
  aside,
  type Batch,
  type Conversation,
  type Erasure,
  type Fold as StoredFold,
  newMeta,
  newOutgoing,
  type Outgoing,
  type Setting,
  type Stored,
} from "../src/engine/types.js";
import {
  CommandKind,
  comparePlaces,
  type ConversationID,
  emptyFold,
  type Entry,
  EntryKind,
  erases,
  foldOf,
  isRecalled,
  makeCommand,
  makeEntry,
  mergeFolds,
  newestOf,
  own,
  ownUser,
  placeOf,
  recallErases,
  type Seq,
  timeOf,
  unfold,
} from "../src/pim/index.js";
import { compareText, noBytes, utf8 } from "../src/pim/text.js";
import type { Store } from "../src/store/store.js";
import { Random } from "./random.js";

export const direct: ConversationID = "d:alice:bob";
export const group: ConversationID = "g:abc";

/** Returns a message of alice's. */
export function entry(conversation: ConversationID, seq: Seq, anchor = seq, local = 1): Entry {
  const clientID = `01${seq.toString(16).padStart(6, "0")}-0000-0000-0000-000000000000`;
  const from = { sender: "alice", device: "phone", clientID, local, server: 1_000_000 };
  return makeEntry({
    conversation,
    seq,
    anchor,
    count: seq,
    kind: EntryKind.message,
    ...from,
    payload: utf8(`message ${seq}`),
  });
}

/** Returns entries without numbers. */
export function stored(...entries: Entry[]): Stored[] {
  return entries.map((e) => ({ entry: e, number: 0, late: false }));
}

/** Returns what a device knows of a conversation. */
export function rowOf(id: ConversationID, fields: Partial<Conversation> = {}): Conversation {
  return {
    ...{ id, known: 0, newest: 0, count: 0, own: 0, ownCount: 0, ownAll: 0, mentioned: { named: 0, all: 0 } },
    ...{ last: undefined, lastCut: false, left: false, holes: [], folded: 0, stale: 0, front: 0, lost: 0 },
    ...fields,
  };
}

/** What a store holds. */
export class Model {
  meta = newMeta();
  rows: Conversation[] = [];
  gone = new Map<ConversationID, number>();
  entries: Stored[] = [];
  folds: StoredFold[] = [];
  outbox: Outgoing[] = [];
  settings: Setting[] = [];
  networks: Batch["networks"] & object = [];
  erasures: Erasure[] = [];
  former: Entry[] = [];

  apply(b: Batch): void {
    for (const r of b.rewinds) {
      const above = (e: Entry): boolean => e.conversation === r.conversation && e.seq > r.after;
      const all = this.of(r.conversation).map((e) => e.entry);
      all.filter((e) => above(e) && e.sender === r.sender && !e.erased).forEach((e) => this.#keep(e));
      this.former = this.former.flatMap((e) => (e.conversation === r.conversation ? (aside(r, e) ?? []) : e));
      this.entries = this.entries.filter(({ entry: e }) => !above(e));
      this.folds = this.folds.filter((f) => f.conversation !== r.conversation || newestOf(f.fold) <= r.after);
      this.settings = ownUser(r.conversation) === undefined ? this.settings : [];
    }
    b.keep.forEach((e) => this.#keep(e));
    this.meta = b.meta ?? this.meta;
    this.rows = put(this.rows, b.conversations, (c) => c.id);
    for (const s of b.entries) {
      if (!this.entries.some(({ entry: e }) => e.conversation === s.entry.conversation && e.seq === s.entry.seq)) {
        this.entries.push(s);
      }
    }
    for (const { conversation, fold } of b.folds) {
      const at = this.folds.findIndex((f) => f.conversation === conversation && f.fold.target === fold.target);
      const merged = mergeFolds(this.folds[at]?.fold ?? emptyFold(fold.target), fold);
      this.folds = put(this.folds, [{ conversation, fold: merged }], (f) => `${f.conversation} ${f.fold.target}`);
    }
    const recalled = this.folds.filter((f) => isRecalled(f.fold));
    this.#eraseThose((e) => !e.erased && recalled.some((f) => f.conversation === e.conversation && recallErases(f.fold, e)));
    for (const x of b.erasures) {
      this.#eraseThose((e) => e.conversation === x.conversation && erases(x, e));
      this.folds = this.folds.map((f) => (f.conversation === x.conversation ? { ...f, fold: unfold(x, f.fold) } : f));
    }
    this.erasures = put(this.erasures, b.erasures, (x) => `${x.conversation} ${x.by}`);
    this.outbox = put(this.outbox, b.outbox, (m) => m.id).filter((m) => !b.remove.includes(m.id));
    this.settings = put(this.settings, b.settings, (s) => s.entity);
    this.networks = b.networks ?? this.networks;
    for (const f of b.forget) {
      this.former = this.former.filter((e) => e.conversation !== f.conversation || (f.id !== undefined && e.clientID !== f.id));
    }
    for (const t of b.trims) {
      const below = this.of(t.conversation).filter(({ entry: e }) => e.seq < t.front);
      const last = below.at(-1);
      this.gone.set(t.conversation, Math.max(this.gone.get(t.conversation) ?? 0, last ? timeOf(last.entry) : 0));
      this.entries = this.entries.filter((e) => !below.includes(e));
      this.folds = this.folds.filter((f) => f.conversation !== t.conversation || f.fold.target >= t.front);
      this.former = this.former.filter((e) => e.conversation !== t.conversation || e.seq >= t.former);
    }
  }

  #keep(e: Entry): void {
    this.former = put(this.former, [e], (f) => `${f.conversation} ${f.clientID}`);
  }

  #eraseThose(erased: (e: Entry) => boolean): void {
    this.entries = this.entries.map((s) =>
      erased(s.entry) ? { ...s, entry: { ...s.entry, payload: noBytes, erased: true } } : s,
    );
  }

  /** Returns the entries of a conversation, ascending by seq. */
  of(conversation: ConversationID): Stored[] {
    const list = this.entries.filter((s) => s.entry.conversation === conversation);
    return list.sort((a, b) => a.entry.seq - b.entry.seq);
  }
}

/** Returns list with those of more, each in place of what has the same key. */
function put<T>(list: readonly T[], more: readonly T[], key: (of: T) => string): T[] {
  const all = new Map(list.map((one) => [key(one), one]));
  more.forEach((one) => all.set(key(one), one));
  return [...all.values()];
}

const conversations: ConversationID[] = [direct, group, own("alice")];
const users = ["alice", "bob", "zoë"];

/** Makes batches as an engine may make them. The entry at a seq is always the same one, until it is taken back. */
export class Batches {
  readonly r: Random;
  #number = 0;
  readonly #age = new Map<ConversationID, number>(); // how often it was taken back

  constructor(r: Random) {
    this.r = r;
  }

  /** Returns some of a list that make makes. */
  #some<T>(chance: number, most: number, make: () => T): T[] {
    return this.r.below(100) < chance ? Array.from({ length: 1 + this.r.below(most) }, make) : [];
  }

  #entry(): Entry {
    const conversation = this.r.pick(conversations);
    const seq = 1 + this.r.below(30);
    const fixed = new Random(seq * 1000 + (this.#age.get(conversation) ?? 0));
    const kind = seq < 4 ? EntryKind.message : fixed.pick([1, 1, 1, 6, 7, 8, 9, 10, 5]);
    const refers = kind > EntryKind.command ? 1 + fixed.below(seq - 1) : 0;
    const payload =
      kind === EntryKind.message || kind <= EntryKind.edit
        ? utf8(`${conversation} ${seq} ${"x".repeat(fixed.below(9))}`)
        : noBytes;
    const reaction = kind === EntryKind.reaction ? fixed.pick(["👍", "+1"]) : "";
    const base = entry(conversation, seq, 1 + fixed.below(seq), 900_000 + fixed.below(5));
    const clientID = fixed.pick([base.clientID, base.clientID, entry(conversation, 1 + fixed.below(30)).clientID]);
    const said = {
      kind,
      refers,
      payload,
      reaction,
      sender: fixed.pick(users),
      clientID,
      removed: kind > 7 && fixed.below(4) === 0,
    };
    return { ...base, ...said, server: 1_000_000 + fixed.below(9) };
  }

  #fold(entries: readonly Stored[]): StoredFold {
    const e = entries.length > 0 && this.r.below(2) === 0 ? this.r.pick(entries).entry : this.#entry();
    const fold = foldOf(e) ?? emptyFold(e.seq);
    return { conversation: e.conversation, fold: this.r.below(4) === 0 ? { ...fold, upto: this.r.below(30) } : fold };
  }

  #outgoing(): Outgoing {
    const n = this.r.below(8);
    const { clientID } = entry(direct, n + 1);
    return newOutgoing({ id: clientID, conversation: direct, kind: EntryKind.message, number: n, local: this.r.below(100) });
  }

  #setting(): Setting {
    const subject = this.r.pick(users);
    const command = makeCommand({ kind: CommandKind.block, subject, removed: this.r.below(2) === 0 });
    return { ...command, entity: `block/${subject}`, at: this.r.below(100), deleted: 0, by: "" };
  }

  /** Returns the next batch. */
  next(): Batch {
    const r = this.r;
    const rewinds = this.#some(6, 2, () => {
      const conversation = r.pick(conversations);
      this.#age.set(conversation, (this.#age.get(conversation) ?? 0) + 1);
      return { conversation, after: r.below(30), sender: r.pick(users) };
    });
    const entries = this.#some(70, 8, () => ({
      entry: this.#entry(),
      late: r.below(5) === 0,
      number: r.below(9) && ++this.#number,
    }));
    const known = (): Conversation => {
      const last = r.below(4) === 0 ? this.#entry() : undefined;
      const id = last?.conversation ?? r.pick(conversations);
      return rowOf(id, { known: r.below(30), newest: r.below(30), last });
    };
    const changes: Batch = {
      ...{ ...newBatch(), rewinds, entries },
      conversations: this.#some(60, 3, known),
      outbox: this.#some(30, 3, () => this.#outgoing()),
      remove: this.#some(20, 3, () => this.#outgoing().id),
      settings: this.#some(15, 3, () => this.#setting()),
      folds: this.#some(50, 6, () => this.#fold(entries)),
      erasures: this.#some(8, 2, () => ({ conversation: r.pick(conversations), by: r.pick(users), upTo: r.below(30) })),
      keep: this.#some(8, 3, () => this.#entry()),
      forget: this.#some(8, 2, () => ({
        conversation: r.pick(conversations),
        ...(r.below(3) && { id: this.#entry().clientID }),
      })),
      trims: this.#some(6, 2, () => ({ conversation: r.pick(conversations), front: r.below(25), former: r.below(25) })),
    };
    if (r.below(3) === 0) {
      changes.meta = { ...newMeta(), user: "alice", stored: this.#number, key: r.bytes(16), confirms: r.below(2) === 0 };
    }
    if (r.below(6) === 0) {
      changes.networks = this.#some(80, 3, () => ({ name: `wifi/${r.below(9)}`, every: r.below(99), stable: true, used: 0 }));
    }
    return changes;
  }
}

/** Applies random batches to a new store, and to a model; the store is looked at, and opened again, in between. */
export async function randomBatches(seed: number, open: () => Promise<Store>): Promise<void> {
  const r = new Random(seed);
  const batches = new Batches(r);
  const model = new Model();
  let s = await open();
  const applied: Promise<void>[] = [];
  for (let i = 0; i < 40; i++) {
    const b = batches.next();
    model.apply(b);
    applied.push(s.apply(b));
    if (r.below(3) > 0) {
      continue;
    }
    await Promise.all(applied.splice(0));
    if (r.below(4) === 0) {
      await s.close();
      s = await open();
    }
    await same(s, model, r, `seed ${seed}, batch ${i}`);
  }
  await Promise.all(applied);
  await same(s, model, r, `seed ${seed}, at the end`);
  await s.close();
}

const byID = (a: { id: string }, b: { id: string }): number => compareText(a.id, b.id);

/** Asks the store for everything, and for some pages. */
export async function same(s: Store, model: Model, r: Random, what: string): Promise<void> {
  const got = await s.load();
  const text = (x: unknown): string => JSON.stringify(x);
  const sorted = <T>(list: readonly T[]): T[] => [...list].sort((a, b) => compareText(text(a), text(b)));
  assert.deepEqual(got.meta, model.meta, what);
  assert.deepEqual(got.networks, model.networks, what);
  assert.deepEqual(got.outbox.sort(byID), [...model.outbox].sort(byID), what);
  assert.deepEqual(sorted(got.settings), sorted(model.settings), what);
  assert.deepEqual(sorted(got.erasures), sorted(model.erasures), what);
  assert.deepEqual(got.former.sort(compareText), [...new Set(model.former.map((e) => e.conversation))].sort(compareText), what);
  const rows = model.rows.sort(byID).map((c) => {
    const last = c.last ?? model.of(c.id).at(-1)?.entry;
    return { ...c, last, goneAt: model.gone.get(c.id) ?? 0 };
  });
  assert.deepEqual(await s.conversations(), rows, what);
  const numbered = model.entries.filter((e) => e.number > 0).sort((a, b) => a.number - b.number);
  const after = r.below(20);
  const of = (limit: number): Stored[] => numbered.filter((e) => e.number > after).slice(0, limit);
  assert.deepEqual(await s.since(after, 7), of(7), what);
  assert.deepEqual(await s.since(after, 1000), of(1000), what);
  for (const id of conversations) {
    const all = model.of(id).map((e) => e.entry);
    const shown = [...all].sort((a, b) => comparePlaces(placeOf(a), placeOf(b)));
    const [from, limit] = [r.below(20), 1 + r.below(9)];
    assert.deepEqual(
      await s.conversation(id),
      rows.find((c) => c.id === id),
      what,
    );
    assert.deepEqual(await s.entries(id, undefined, 1000), shown, what);
    assert.deepEqual(await s.range(id, 0, 1000, 1000), all, what);
    assert.deepEqual(
      await s.range(id, from, from + 9, limit),
      all.filter((e) => e.seq >= from && e.seq <= from + 9).slice(0, limit),
      what,
    );
    assert.deepEqual(await s.below(id, from, limit), all.filter((e) => e.seq <= from).slice(-limit), what);
    if (shown.length > 0) {
      const at = r.below(shown.length);
      const [place] = shown.slice(at).map(placeOf);
      assert.deepEqual(await s.entries(id, place, limit), shown.slice(Math.max(0, at - limit), at), what);
    }
    const folds = model.folds.filter((f) => f.conversation === id).map((f) => f.fold);
    folds.sort((a, b) => a.target - b.target);
    assert.deepEqual(await s.folds(id, 0, 1000), folds, what);
    assert.deepEqual(
      await s.folds(id, from, from + 5),
      folds.filter((f) => f.target >= from && f.target <= from + 5),
      what,
    );
    const former = model.former.filter((e) => e.conversation === id);
    former.sort((a, b) => a.seq - b.seq || compareText(a.clientID, b.clientID));
    assert.deepEqual(await s.former(id, 0, 1000), former, what);
    assert.deepEqual(await s.former(id, 1, limit), former.slice(1, 1 + limit), what);
  }
}
