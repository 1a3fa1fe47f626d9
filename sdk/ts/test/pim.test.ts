import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import * as pim from "../src/pim/index.js";
import { sha256 } from "../src/pim/sha256.js";
import { byteLength, compareText, isWellFormed } from "../src/pim/text.js";
import { casesOf, ran } from "./conformance.js";
import { firstSeed, Random } from "./random.js";

const { EntryKind } = pim;

function bytes(s: string): Uint8Array {
  return new TextEncoder().encode(s);
}

// The files of cases.

interface Message {
  id: string;
  sender: string;
  local: number;
  server: number;
  seq: number;
}

interface Written {
  name: string;
  messages: {
    id: string;
    seq: number;
    local: number;
    server: number;
    ahead?: number;
    order?: number;
    anchor: number;
  }[];
  order: string[];
}

const orderFile = "testdata/display-order.json";
const orderCases = casesOf<{
  window_ms: number;
  slack_ms: number;
  vectors: { name: string; messages: Message[]; anchors: Record<string, number>; order: string[] }[];
  clock_set: Written[];
}>(orderFile);

/** Returns the IDs of messages, which have these places, as they are displayed. */
function shown(places: readonly (readonly [string, pim.Place])[]): string[] {
  return [...places].sort(([, p], [, q]) => pim.comparePlaces(p, q)).map(([id]) => id);
}

test("display order", async (t) => {
  assert.deepEqual([pim.orderWindow, pim.orderSlack], [orderCases.window_ms, orderCases.slack_ms]);
  for (const c of orderCases.vectors) {
    await t.test(c.name, () => {
      const places = c.messages.map((m) => {
        // The writer gives the anchor: the rule as it is written shows that L' is the same here.
        const local = pim.clamp(m.local, m.server);
        const later = c.messages.find((o) => o.seq < m.seq && o.sender === m.sender && pim.clamp(o.local, o.server) > local);
        const anchor = (later ?? m).seq;
        assert.equal(anchor, c.anchors[m.id], m.id);
        return [m.id, pim.placeOf(pim.makeEntry({ ...m, anchor }))] as const;
      });
      assert.deepEqual(shown(places), c.order);
      ran(orderFile, c.name);
    });
  }
});

test("display order when a clock is set", async (t) => {
  for (const c of orderCases.clock_set) {
    await t.test(c.name, () => {
      const places = c.messages.map((m) => [m.id, pim.placeOf(pim.makeEntry(m))] as const);
      assert.deepEqual(shown(places), c.order);
      ran(orderFile, c.name);
    });
  }
});

interface FoldCase {
  name: string;
  entries: {
    seq: number;
    kind: string;
    sender: string;
    payload?: string;
    reaction?: string;
    removed?: boolean;
    refers?: number;
  }[];
  want: {
    payload?: string;
    recalled?: boolean;
    erased?: boolean;
    pinned?: boolean;
    reactions?: Record<string, string[]>;
  };
}

const foldsFile = "testdata/folds.json";

/** Returns all orders of list. */
function permutations<T>(list: readonly T[]): T[][] {
  return list.length === 0
    ? [[]]
    : list.flatMap((first, i) => permutations(list.filter((_, k) => k !== i)).map((rest) => [first, ...rest]));
}

test("folds", async (t) => {
  for (const c of casesOf<FoldCase[]>(foldsFile)) {
    await t.test(c.name, () => {
      const entries = c.entries.map(({ kind, payload, refers, ...fields }) =>
        pim.makeEntry({
          ...fields,
          kind: EntryKind[kind as keyof typeof EntryKind],
          payload: bytes(payload ?? ""),
          refers: refers ?? 1,
        }),
      );
      for (const order of permutations(entries)) {
        assert.deepEqual(summary(order), c.want);
      }
      ran(foldsFile, c.name);
    });
  }
});

/** Returns what entries, in this order, make of alice's message at seq 1, in the words of the file. */
function summary(entries: readonly pim.Entry[]): FoldCase["want"] {
  const message = pim.makeEntry({ seq: 1, kind: EntryKind.message, sender: "alice", payload: bytes("hi") });
  let fold = pim.emptyFold(1);
  const erasures: pim.Erasure[] = [];
  for (const e of entries) {
    const one = pim.foldOf(e);
    const erasure = pim.erasureOf(e);
    fold = one ? pim.mergeFolds(fold, one) : fold;
    if (erasure) {
      erasures.push(erasure);
    }
    for (const x of erasures) {
      fold = pim.unfold(x, fold);
    }
  }
  const want: FoldCase["want"] = {};
  if (fold.edit.seq !== 0) {
    want.payload = new TextDecoder().decode(fold.edit.payload);
  }
  if (pim.isRecalled(fold)) {
    want.recalled = true;
    assert.ok(pim.recallErases(fold, message));
  }
  if (erasures.some((x) => pim.erases(x, message))) {
    want.erased = true;
  }
  if (pim.isPinned(fold)) {
    want.pinned = true;
  }
  const reactions = pim.reactionsInForce(fold);
  if (reactions.length > 0) {
    want.reactions = {};
    for (const { text, user } of reactions) {
      (want.reactions[text] ??= []).push(user);
    }
  }
  return want;
}

interface CommandCase {
  name: string;
  commands: { at: number; device: string; kind: string; subject: string; value?: string }[];
  want: { at: number; removed?: boolean; value?: string; until?: number; seq?: number; count?: number };
}

const commandsFile = "testdata/commands.json";

test("commands", async (t) => {
  const kinds = [1, 2, 3, 4, 5, 6, 7, 8];
  for (const c of casesOf<CommandCase[]>(commandsFile)) {
    await t.test(c.name, () => {
      let setting = pim.noSetting;
      for (const { at, device, kind, value, ...fields } of c.commands) {
        const number = kinds.find((k) => pim.commandKindName(k) === kind);
        assert.ok(number !== undefined && pim.isKnownCommand(number), kind);
        const command = pim.makeCommand({ ...fields, kind: number, value: bytes(value ?? "") });
        pim.checkCommand(command);
        const next = pim.applyCommand(setting, command, at, device);
        assert.equal(next === setting, next.at === setting.at, "the same object tells that nothing has changed");
        setting = next;
      }
      assert.deepEqual(
        {
          at: setting.at,
          removed: setting.removed,
          value: new TextDecoder().decode(setting.value),
          until: setting.until,
          seq: setting.seq,
          count: setting.count,
        },
        { removed: false, value: "", until: 0, seq: 0, count: 0, ...c.want },
      );
      ran(commandsFile, c.name);
    });
  }
});

// Folds beyond the file: whatever is merged in whatever order.

test("folds are merged in any order and again", { timeout: 600_000 }, () => {
  const seed = firstSeed();
  for (let i = 0; i < 300; i++) {
    const r = new Random(seed + i);
    const entries = Array.from({ length: 6 }, (_, k) =>
      pim.makeEntry({
        seq: k + 2,
        refers: 1,
        kind: r.pick([EntryKind.edit, EntryKind.reaction, EntryKind.reaction, EntryKind.pin, EntryKind.recall]),
        sender: r.pick(["alice", "bob"]),
        reaction: r.pick(["👍", "！"]),
        removed: r.below(3) === 0,
      }),
    );
    const folds = entries.map((e) => pim.foldOf(e) ?? pim.emptyFold(1));
    const merged = folds.reduce(pim.mergeFolds);
    for (let n = 0; n < 5; n++) {
      const shuffled = [...folds, r.pick(folds)].map((f) => [r.bits(), f] as const).sort(([a], [b]) => a - b);
      assert.deepEqual(shuffled.map(([, f]) => f).reduce(pim.mergeFolds), merged, `seed ${seed + i}`);
    }
    // Up to a seq the server says what is left; what was taken back before it is gone.
    const upto = 2 + r.below(6);
    const known = { ...folds.slice(0, upto - 1).reduce(pim.mergeFolds), upto };
    const whole = pim.mergeFolds(known, merged);
    assert.deepEqual(pim.mergeFolds(merged, known), whole);
    assert.deepEqual(pim.reactionsInForce(whole), pim.reactionsInForce(merged));
    assert.equal(pim.isPinned(whole), pim.isPinned(merged));
    assert.ok(pim.newestOf(whole) >= upto);
  }
});

test("what a fold with upto lacks was taken back", () => {
  const reaction: pim.Reaction = { text: "👍", user: "bob", seq: 3, removed: false };
  const mine = { ...pim.emptyFold(1), reactions: [reaction] };
  assert.deepEqual(pim.mergeFolds(mine, { ...pim.emptyFold(1), upto: 3 }).reactions, []);
  assert.deepEqual(pim.mergeFolds(mine, { ...pim.emptyFold(1), upto: 2 }).reactions, [reaction]);
});

test("what was taken back is kept until a fold has passed it", () => {
  const removed: pim.Reaction = { text: "👍", user: "bob", seq: 3, removed: true };
  const merged = (upto: number) => pim.mergeFolds({ ...pim.emptyFold(1), upto, reactions: [removed] }, pim.emptyFold(1));
  assert.deepEqual(merged(2).reactions, [removed]);
  assert.deepEqual(merged(3).reactions, []);
});

test("reactions", () => {
  pim.checkReaction("👍🏽");
  const refused = (text: string, kind: pim.Kind) => {
    assert.throws(() => pim.checkReaction(text), { name: "PimError", kind });
  };
  refused("", "invalid");
  refused("a\nb", "invalid");
  refused("\u0085", "invalid");
  refused("\ud83d", "invalid");
  refused("🎉".repeat(9), "too_large");
});

test("erasures", () => {
  const x = { by: "alice", upTo: 5 };
  const message = pim.makeEntry({ seq: 5, kind: EntryKind.message, sender: "alice" });
  assert.ok(pim.erases(x, message));
  assert.ok(!pim.erases(x, { ...message, erased: true }));
  assert.ok(!pim.erases(x, { ...message, seq: 6 }));
  assert.ok(!pim.erases(x, { ...message, sender: "bob" }));
  assert.ok(pim.erases(x, { ...message, seq: 9, kind: EntryKind.edit, refers: 4 }));
  assert.ok(!pim.erases(x, { ...message, kind: EntryKind.reaction }));
});

// Identifiers.

test("IDs", () => {
  for (const good of ["alice", "李雷", "a".repeat(64), "é", "👍"]) {
    pim.checkUserID(good);
    pim.checkDeviceID(good);
  }
  for (const bad of [
    "",
    "a".repeat(65),
    "é".repeat(33),
    "a b",
    "a:b",
    "a/b",
    "a\u0000",
    "a\u0085",
    "a\u3000",
    "\ud800",
    "a\u2028",
  ]) {
    assert.throws(() => pim.checkUserID(bad), { name: "PimError", kind: "invalid" }, JSON.stringify(bad));
  }
  pim.checkUserID("\ufeff"); // no whitespace to Unicode, though \s matches it
});

test("conversations", () => {
  assert.equal(pim.direct("bob", "alice"), "d:alice:bob");
  assert.equal(pim.direct("alice", "alice"), "d:alice:alice");
  // In UTF-8 U+FF01 comes before U+1F44D, in UTF-16 behind it.
  assert.equal(pim.direct("👍", "！"), "d:！:👍");
  assert.deepEqual(pim.directUsers("d:alice:bob"), ["alice", "bob"]);
  assert.equal(pim.directUsers("d:alice"), undefined);
  assert.equal(pim.directUsers("g:x:y"), undefined);
  assert.equal(pim.ownUser(pim.own("alice")), "alice");
  assert.equal(pim.ownUser("g:x"), undefined);
  for (const good of ["d:alice:bob", "g:abc", "u:alice"]) {
    pim.checkConversationID(good);
  }
  for (const bad of ["", "x:alice", "d:bob:alice", "d:alice", "d:👍:！", "d::bob", "g:", "u:", "u:a b", "d:a:b:c"]) {
    assert.throws(() => pim.checkConversationID(bad), { name: "PimError", kind: "invalid" }, bad);
  }
  assert.deepEqual(
    ["d:alice:bob", "d:bob:carl", "u:alice", "u:bob", "g:x", "x"].map((c) => pim.excludes(c, "alice")),
    [false, true, false, true, false, true],
  );
});

test("client message IDs", () => {
  const id = pim.newClientMessageID(1700000000123);
  assert.match(id, /^018bcfe5-687b-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(pim.newClientMessageID(1700000000123), id);
  assert.equal(pim.clientMessageIDOf(pim.clientMessageIDBytes(id)), id);
  assert.equal(pim.parseClientMessageID(id.toUpperCase().replaceAll("-", "")), id);
  assert.equal(pim.clientMessageIDOf(new Uint8Array(16)), pim.noClientMessageID);
  for (const bad of ["", "x", id.slice(1), `${id}0`, id.replace("0", "g")]) {
    assert.throws(() => pim.parseClientMessageID(bad), { name: "PimError", kind: "invalid" });
  }
  assert.throws(() => pim.clientMessageIDOf(new Uint8Array(15)), { name: "PimError", kind: "invalid" });
});

test("the ID of a group follows from the request", () => {
  // What package pim gives for the same: TestNewGroup in id_test.go.
  assert.equal(pim.newGroup("alice", "00010203-0405-0607-0809-0a0b0c0d0e0f"), "g:nfxvtxxrjk75xthkylnwzwb5");
});

test("SHA-256 is what others compute", () => {
  for (let n = 0; n < 200; n++) {
    const data = randomBytes(n);
    assert.deepEqual(Buffer.from(sha256(data)), createHash("sha256").update(data).digest());
  }
});

test("text is measured and ordered as UTF-8", () => {
  const texts = [
    "",
    "a",
    "z",
    "é",
    "ß",
    "！",
    "\uffff",
    "👍",
    "🎉",
    "a👍",
    "a！",
    "李",
    "\u007f",
    "\u0080",
    "\u07ff",
    "\u0800",
  ];
  for (const a of texts) {
    assert.equal(byteLength(a), Buffer.byteLength(a));
    assert.ok(isWellFormed(a));
    for (const b of texts) {
      assert.equal(Math.sign(compareText(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)), JSON.stringify([a, b]));
    }
  }
  for (const half of ["\ud83d", "\udc4d", "a\ud83db", "\udc4d\ud83d"]) {
    assert.ok(!isWellFormed(half));
    assert.equal(byteLength(half), Buffer.byteLength(half));
  }
});

// Errors, commands, mentions, retention.

test("errors", () => {
  const cause = new pim.PimError("invalid", "user ID is empty");
  assert.equal(cause.message, "user ID is empty (invalid)");
  const same = new pim.PimError("invalid", `hello: ${cause.message}`, { op: "open", cause });
  assert.equal(same.message, "open: hello: user ID is empty (invalid)");
  const other = new pim.PimError("corrupt", `stored: ${cause.message}`, { cause, retryAfter: 5 });
  assert.equal(other.message, "stored: user ID is empty (invalid) (corrupt)");
  assert.equal(other.retryAfter, 5);
  assert.equal(pim.kindOf(other), "corrupt");
  assert.equal(pim.kindOf(new Error("x", { cause: other })), "corrupt");
  assert.equal(pim.kindOf(new Error("x")), "unknown");
  assert.equal(pim.kindOf("x"), "unknown");
  const loop = new Error("loop");
  loop.cause = loop;
  assert.equal(pim.kindOf(loop), "unknown");
  assert.deepEqual(
    pim.kinds.filter((k) => pim.isRetryable(k)),
    ["unknown", "overloaded", "unavailable", "disk_full", "timeout", "internal", "clock_unhealthy"],
  );
});

test("names of kinds", () => {
  assert.equal(pim.entryKindName(EntryKind.reaction), "reaction");
  assert.equal(pim.entryKindName(300), "unknown");
  assert.equal(pim.commandKindName(99), "99");
  assert.ok(!pim.isKnownCommand(0) && !pim.isKnownCommand(99));
  assert.equal(pim.entityOf(pim.makeCommand({ kind: 5, subject: "g:x" })), "read/g:x");
  assert.equal(pim.entityOf(pim.makeCommand({ kind: 8, subject: "ann" })), "8/ann");
});

test("commands that are none", () => {
  const refused = (fields: Partial<pim.Command>, kind: pim.Kind) => {
    assert.throws(() => pim.checkCommand(pim.makeCommand(fields)), { name: "PimError", kind });
  };
  refused({ kind: 99, subject: "x" }, "unsupported");
  refused({ kind: 1, subject: "a b" }, "invalid");
  refused({ kind: 4, subject: "alice" }, "invalid");
  refused({ kind: 1, subject: "bob", value: new Uint8Array(pim.maxCommandValue + 1) }, "too_large");
  refused({ kind: 4, subject: "g:x", value: new Uint8Array(1) }, "invalid");
  refused({ kind: 4, subject: "g:x", until: 5 }, "invalid");
  refused({ kind: 3, subject: "g:x", until: -5 }, "invalid");
  refused({ kind: 5, subject: "g:x" }, "invalid");
  refused({ kind: 5, subject: "g:x", seq: 1, removed: true }, "invalid");
  refused({ kind: 6, subject: "g:x", seq: 1 }, "invalid");
});

test("a mute ends", () => {
  const mute = pim.applyCommand(pim.noSetting, pim.makeCommand({ kind: 3, subject: "g:x", until: 100 }), 1, "phone");
  assert.ok(pim.inForce(mute, 99) && !pim.inForce(mute, 100) && !pim.inForce(pim.noSetting, 0));
});

test("mentions", () => {
  const since = (named: number, all: number, own: number, ownAll: number) =>
    pim.mentionedSince({ named, all }, own, ownAll, { named: 5, all: 1 });
  assert.deepEqual([since(7, 2, 4, 0), since(7, 2, 9, 9), since(3, 0, 0, 0)], [3, 0, 0]);
  const e = pim.makeEntry({ mentions: [{ user: "bob", count: 7 }] });
  assert.deepEqual([pim.namedIn(e, "bob"), pim.namedIn(e, "eve")], [7, 0]);
});

test("retention", () => {
  const r = { age: 10, before: 30, from: 100 };
  assert.deepEqual([pim.retentionAt(r, 99), pim.retentionAt(r, 100), pim.retentionAt(pim.noRetention, 5)], [30, 10, 0]);
  assert.deepEqual(pim.retentionWithin(r, 20), { age: 10, before: 20, from: 100 });
  assert.deepEqual(pim.retentionWithin(pim.noRetention, 20), { age: 20, before: 20, from: 0 });
  assert.deepEqual(pim.retentionWithin(r, 0), r);
});
