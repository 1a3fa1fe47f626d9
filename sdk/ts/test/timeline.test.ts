import assert from "node:assert/strict";
import { test } from "node:test";
import { Timeline } from "../src/client/timeline.js";
import { newOutgoing, type Pending, type Sent } from "../src/engine/index.js";
import { clientMessageIDOf, comparePlaces, type Entry, EntryKind, makeEntry, placeOf, type Seq } from "../src/pim/index.js";
import { firstSeed, Random } from "./random.js";

function id(n: number, m = 0): string {
  return clientMessageIDOf(Uint8Array.of(n, m, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

function pendingOf(n: number, state: Pending["state"], fields: Partial<Pending> = {}): Pending {
  const out = newOutgoing({ id: id(n), conversation: "d:alice:bob", kind: EntryKind.message, number: n, local: 100 });
  return { ...out, state, err: undefined, ...fields };
}

function sentAs(e: Entry): Sent {
  const { conversation, seq, anchor, server } = e;
  return { conversation, seq, anchor, server, ahead: 0, order: 0, count: 0, allCount: 0, duplicate: false, strangers: [] };
}

function message(seq: Seq, fields: Partial<Entry> = {}): Entry {
  return makeEntry({ seq, anchor: seq, kind: EntryKind.message, clientID: id(200, seq), local: 70, server: 200, ...fields });
}

function lines(line: Timeline): string[] {
  return line.items().map((m) => (m.pending() ? `${m.entry.clientID.slice(0, 2)} ${m.state}` : String(m.entry.seq)));
}

test("in whatever order entries and messages come, a timeline shows what sorting everything would show", () => {
  const random = new Random(firstSeed());
  for (let round = 0; round < 200; round++) {
    const line = new Timeline("alice");
    const shown = new Map<Seq, Entry>();
    const log = new Map<Seq, Entry>();
    const pending = new Map<number, Pending>();
    const older: Entry[] = []; // of a page that is prepended in between
    const steps = random.below(60) + 1;
    for (let step = 0; step < steps; step++) {
      const n = random.below(12) + 1;
      const seq = shown.size + 1;
      const anchor = random.below(seq) + 1;
      const what = random.below(5);
      if (what === 0 && ![...shown.values()].some((e) => e.clientID === id(n))) {
        // queued, or a new state
        const p = pendingOf(n, random.pick(["queued", "sending", "waiting", "failed"] as const));
        pending.set(n, p);
        line.put(p);
      } else if (what === 1 && pending.has(n)) {
        // delivered
        const e = message(seq, { anchor, clientID: id(n), local: 100 });
        line.sent(id(n), sentAs(e), "phone");
        pending.delete(n);
        shown.set(seq, e);
        // The entry of a message that was sent again by hand may have the local time of its first transmission.
        log.set(seq, { ...e, local: random.pick([100, 50]) });
      } else if (what === 2) {
        // somebody else's
        const e = message(seq, { anchor });
        shown.set(seq, e);
        log.set(seq, e);
        line.insert(e);
      } else if (what === 3 && log.size > 0) {
        // the entry itself comes, or comes once more
        const e = log.get(random.below(log.size) + 1);
        assert.ok(e);
        shown.set(e.seq, e);
        line.insert(e);
      } else if (what === 4) {
        // a page of what the store has
        older.splice(0, older.length, ...[...log.values()].sort((a, b) => comparePlaces(placeOf(a), placeOf(b))));
        older.forEach((e) => shown.set(e.seq, e));
        line.prepend(older, true);
      }
      const want = [...shown.values()].sort((a, b) => comparePlaces(placeOf(a), placeOf(b))).map((e) => String(e.seq));
      const waiting = [...pending.values()].sort((a, b) => a.number - b.number);
      assert.deepEqual(lines(line), [...want, ...waiting.map((p) => `${p.id.slice(0, 2)} ${p.state}`)]);
    }
  }
});

test("what retention has removed leaves the timeline, and an answer about it adds nothing", () => {
  const line = new Timeline("alice");
  for (let seq = 1; seq <= 4; seq++) {
    line.insert(message(seq));
  }
  line.put(pendingOf(9, "sending"));
  line.put(pendingOf(10, "sending"));
  line.trim(4);
  line.sent(id(9), sentAs(message(2, { server: 0 })), "phone");
  line.sent(id(10), sentAs(message(3)), "phone");
  assert.deepEqual(lines(line), ["4"]);
  assert.equal(line.front, 4);
});

test("lines that have not changed are the same Messages", () => {
  const line = new Timeline("alice");
  line.prepend([message(1), message(2)], true);
  const [one, two] = line.items();
  line.insert(message(3));
  assert.equal(line.items()[0], one);
  assert.equal(line.items()[1], two);
  line.put(pendingOf(5, "queued", { kind: EntryKind.reaction, refers: 2, reaction: "👍" }));
  assert.equal(line.items()[0], one);
  assert.notEqual(line.items()[1], two);
  assert.deepEqual(line.items()[1]?.reactions(), [{ text: "👍", users: ["alice"], mine: true }]);
  line.drop(id(5));
  assert.deepEqual(line.items()[1]?.reactions(), []);
  line.erase({ by: "", upTo: 1 });
  assert.equal(line.items()[0]?.erased(), true);
});

test("a page is prepended to a long timeline at once", () => {
  const line = new Timeline("alice");
  const entries = Array.from({ length: 50_000 }, (_, i) => message(i + 1));
  for (let to = entries.length; to > 0; to -= 100) {
    line.prepend(entries.slice(to - 100, to), to === 100);
  }
  assert.equal(line.length, 50_000);
  assert.deepEqual(
    line.items().map((m) => m.entry.seq),
    entries.map((e) => e.seq),
  );
});
