import assert from "node:assert/strict";
import { test } from "node:test";
import { answerID, Feed } from "../src/client/confirm.js";
import { type Session, type Update, type ViewPage } from "../src/client/session.js";
import { View, type ViewOwner } from "../src/client/view.js";
import { clientMessageIDOf, emptyFold, type Entry, EntryKind, makeEntry, type Seq } from "../src/pim/index.js";
import { settled } from "./fakes.js";

// A View on a Session whose answers and updates come when the test says so, as from another tab.

const conversation = "d:alice:bob";

function entry(seq: Seq): Entry {
  const clientID = clientMessageIDOf(new Uint8Array(16).fill(seq));
  return makeEntry({ conversation, seq, anchor: seq, kind: EntryKind.message, sender: "bob", clientID, server: seq });
}

/** A session that answers when it is told to. */
class Scripted {
  readonly asked: { what: string; answer: (page: object) => void }[] = [];
  readonly view: View;

  constructor(n: number) {
    const ask = (what: string): Promise<never> =>
      new Promise((resolve) => this.asked.push({ what, answer: resolve as (page: object) => void }));
    const session = {
      page: (_: string, before: { seq: Seq } | undefined, limit: number) => ask(`page ${before?.seq ?? "end"} ${limit}`),
      folds: (_: string, from: Seq, to: Seq) => ask(`folds ${from} ${to}`),
      fill: (_: string, before: Seq) => ask(`fill ${before}`),
    };
    const owner: ViewOwner = {
      session: session as unknown as Session,
      user: "alice",
      device: "phone",
      closed: () => Promise.resolve(),
    };
    this.view = new View(owner, conversation, n);
  }

  /** Answers what was asked first, which must be what. */
  async answers(what: string, page: Partial<ViewPage> = {}): Promise<void> {
    await settled();
    const first = this.asked.shift();
    assert.equal(first?.what, what);
    first.answer({ number: 0, entries: [], folds: [], missing: false, skipped: 0, front: 0, outbox: [], ...page });
    await settled();
  }

  entry(number: number, seq: Seq, late = false): void {
    this.view.take({ type: "event", number, event: { type: "entry", entry: entry(seq), late, number }, skipped: 0 });
  }

  tells(number: number, event: Extract<Update, { type: "event" }>["event"]): void {
    this.view.take({ type: "event", number, event });
  }

  seqs(): Seq[] {
    return this.view.items().map((m) => m.entry.seq);
  }
}

test("updates that come while a View is opened are not lost, and none is shown that the page has already", async () => {
  const s = new Scripted(10);
  const loaded = s.view.load();
  s.entry(4, 1);
  await settled();
  s.entry(5, 2);
  s.tells(6, { type: "trimmed", conversation, front: 3 });
  s.entry(7, 4);
  await s.answers("page end 10", { number: 6, entries: [entry(3)], front: 3 });
  await loaded;
  assert.deepEqual(s.seqs(), [3, 4]);
  assert.equal(s.view.front, 3);
});

test("what comes while older pages are read lands on top of them", async () => {
  const s = new Scripted(2);
  const loaded = s.view.load();
  await s.answers("page end 2", { number: 1, entries: [entry(8), entry(9)] });
  await loaded;
  const older = s.view.older(2);
  await settled();
  s.entry(2, 10);
  s.entry(4, 7, true); // it fills a hole, after the page was read
  await s.answers("page 8 2", { number: 3, entries: [entry(5), entry(6)] });
  assert.equal(await older, true);
  assert.deepEqual(s.seqs(), [5, 6, 7, 8, 9, 10]);

  const rest = s.view.older(3);
  await s.answers("page 5 3", { number: 4, missing: true });
  await s.answers("fill 5");
  await s.answers("page 5 3", { number: 5, entries: [entry(4)] });
  assert.equal(await rest, false);
  assert.deepEqual(s.seqs(), [4, 5, 6, 7, 8, 9, 10]);
});

test("folds that have changed are read together, and a View whose conversation went back is read anew", async () => {
  const s = new Scripted(2);
  const loaded = s.view.load();
  await s.answers("page end 2", { number: 1, entries: [entry(1), entry(2)] });
  await loaded;
  let changes = 0;
  s.view.onChange(() => changes++);
  for (const seq of [2, 1, 2, 5000]) {
    s.tells(2, { type: "changed", conversation, seq });
  }
  const edited = { ...emptyFold(2), edit: { seq: 9, by: "bob", time: 1, payload: Uint8Array.of(104, 105) } };
  await s.answers("folds 1 2", { number: 2, folds: [edited] });
  assert.deepEqual(
    s.view.items().map((m) => m.text()),
    ["", "hi"],
  );
  assert.equal(changes, 1);
  await s.answers("folds 5000 5000", { number: 2 });

  s.tells(3, { type: "rewound", conversation, after: 1 });
  s.entry(4, 2);
  await s.answers("page end 2", { number: 3, entries: [entry(1)] });
  assert.equal(s.asked.length, 0);
  assert.deepEqual(s.seqs(), [1]);
  s.view.take({ type: "reset", number: 5 });
  await s.answers("page end 2", { number: 6, entries: [entry(1), entry(2), entry(3)] });
  assert.deepEqual(s.seqs(), [1, 2, 3]);
});

test("changes yields what is shown, and what has changed since, together", async () => {
  const s = new Scripted(2);
  const loaded = s.view.load();
  await s.answers("page end 2", { number: 1, entries: [entry(1)] });
  await loaded;
  const changes = s.view.changes();
  assert.equal((await changes.next()).value?.length, 1);
  s.entry(2, 2);
  s.entry(3, 3);
  assert.equal((await changes.next()).value?.length, 3);
  const last = changes.next();
  await s.view.close();
  assert.equal((await last).done, true);
  assert.deepEqual(s.seqs(), [1, 2, 3]);
});

test("a feed hands over what the app has not confirmed, in the order in which it was stored", () => {
  let asked = 0;
  const meta = { confirms: true, confirmed: 2, stored: 4, key: new Uint8Array(16) };
  const feed = new Feed(meta, () => asked++);
  const stored = (number: number) => ({ entry: entry(number), number, late: false });
  assert.equal(feed.behind(), 2);
  feed.add({ type: "entry", ...stored(5) });
  feed.fill([stored(3), stored(4), stored(5)]);
  assert.equal(feed.behind(), undefined);
  feed.add({ type: "entry", ...stored(6) });
  assert.deepEqual([feed.take()?.number, feed.handed], [3, 3]);
  feed.rewind({ type: "rewound", conversation, after: 4 });
  feed.erase({ type: "erased", conversation, by: "bob", upTo: 4 });
  assert.equal(feed.take()?.entry.erased, true);
  assert.equal(feed.take(), undefined);
  for (let n = 7; n <= 200; n++) {
    feed.add({ type: "entry", ...stored(n) });
  }
  while (feed.take() !== undefined);
  assert.ok(asked > 0, "more was not asked for");
  const fresh = new Feed({ ...meta, confirms: false }, () => undefined);
  assert.equal(fresh.behind(), undefined);
});

test("an answer has the ID that the Go client gives it", () => {
  const e = makeEntry({
    conversation,
    sender: "alice",
    clientID: clientMessageIDOf(Uint8Array.from({ length: 16 }, (_, i) => i + 1)),
  });
  const secret = new TextEncoder().encode("0123456789abcdef");
  assert.equal(answerID(secret, e, 0), "01020304-0506-71d4-8b21-d37ea0360967");
  assert.equal(answerID(secret, e, 3), "01020304-0506-7982-8865-9dd2b85b8a06");
});
