import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Content,
  encodeContent,
  forwardOf,
  makeEntry,
  maxPayload,
  parseContent,
  PimError,
  previewOf,
  rangeOf,
  replyTo,
  threadOf,
} from "../src/index.js";
import { casesOf, ran } from "./conformance.js";
import { firstSeed, Random } from "./random.js";

const file = "content/testdata/vectors.json";

/** One case of the file. Bytes are in hexadecimal. */
interface Vector {
  name: string;
  hex: string;
  content?: object;
  again?: string;
  error?: string;
  preview: string;
  cut?: { bytes: number; preview: string; whole: boolean }[];
}

function bytes(s: string): Uint8Array {
  return new TextEncoder().encode(s);
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function toHex(b: Uint8Array | undefined): string {
  return Buffer.from(b ?? []).toString("hex");
}

/** Returns c in the words of the file, in which what is empty is left out. */
function inWords(c: Content): object {
  const { forward: f, reply: r, custom: x } = c;
  const some = (o: object): object =>
    Object.fromEntries(Object.entries(o).filter(([, v]) => v !== "" && v !== 0 && v !== undefined));
  return {
    text: c.text,
    ...some({ thread: c.thread, unknown: toHex(c.unknown) }),
    ...(f && {
      forward: {
        content: toHex(f.content),
        ...some({ sender: f.sender, conversation: f.conversation, seq: f.seq, time_ms: f.time, unknown: toHex(f.unknown) }),
      },
    }),
    ...(r && { reply: { seq: r.seq, sender: r.sender, excerpt: r.excerpt, ...some({ unknown: toHex(r.unknown) }) } }),
    ...(c.mentions?.length && {
      mentions: c.mentions.map((m) => ({
        offset: m.offset,
        length: m.length,
        names: c.text.slice(...rangeOf(c.text, m)),
        ...some({ user: m.user, unknown: toHex(m.unknown) }),
      })),
    }),
    ...(x && { custom: { type: x.type, data: toHex(x.data), ...some({ unknown: toHex(x.unknown) }) } }),
  };
}

test("content", async (t) => {
  for (const v of casesOf<Vector[]>(file)) {
    await t.test(v.name, () => {
      const payload = fromHex(v.hex);
      if (v.content) {
        const c = parseContent(payload);
        assert.deepEqual(inWords(c), v.content);
        assert.equal(toHex(encodeContent(c)), v.again ?? v.hex);
      } else {
        assert.throws(() => parseContent(payload), { name: "PimError", kind: v.error });
      }
      assert.equal(previewOf(payload).text, v.preview);
      for (const cut of v.cut ?? []) {
        assert.deepEqual(previewOf(payload.subarray(0, cut.bytes), true), { text: cut.preview, whole: cut.whole });
      }
      ran(file, v.name);
    });
  }
});

test("hostile payloads are read or refused", { timeout: 600_000 }, () => {
  const seed = firstSeed();
  const payloads = casesOf<Vector[]>(file).map((v) => fromHex(v.hex));
  let read = 0;
  for (let i = 0; i < 3000; i++) {
    const r = new Random(seed + i);
    const payload = [...r.pick(payloads)];
    for (let n = r.below(4); n > 0; n--) {
      payload.splice(r.below(payload.length + 1), r.below(3), ...r.bytes(r.below(3)));
    }
    const b = Uint8Array.from(payload);
    previewOf(b);
    previewOf(b, true);
    try {
      const c = parseContent(b);
      assert.deepEqual(inWords(parseContent(encodeContent(c))), inWords(c), `seed ${seed + i}`);
      read++;
    } catch (err) {
      assert.ok(
        err instanceof PimError && (err.kind === "invalid" || err.kind === "too_large"),
        `seed ${seed + i}: ${String(err)}`,
      );
    }
  }
  assert.ok(read > 200, `${read} were read`);
});

test("contents that are none", () => {
  const refused = (c: Content, kind: string) => {
    assert.throws(() => encodeContent(c), { name: "PimError", kind });
  };
  const place = (offset: number, length: number) => ({ user: "bob", offset, length });
  refused({ text: "\ud83d" }, "invalid");
  refused({ text: "é", mentions: [place(0, 1)] }, "invalid");
  refused({ text: "hi", mentions: [place(1, 2)] }, "invalid");
  refused({ text: "hi", mentions: [place(0, 2), place(1, 1)] }, "invalid");
  refused({ text: "hi", mentions: Array.from({ length: 257 }, (_, i) => place(i, 1)) }, "too_large");
  refused({ text: "hi", custom: { type: "poll", data: new Uint8Array(0) } }, "invalid");
  refused({ text: "hi", custom: { type: `a/${"b".repeat(127)}`, data: new Uint8Array(0) } }, "too_large");
  refused({ text: "x".repeat(maxPayload + 1) }, "too_large");
  refused({ text: "x".repeat(maxPayload), thread: 1 }, "too_large");
  assert.equal(encodeContent({ text: "x".repeat(maxPayload) }).length, maxPayload);
  assert.throws(() => parseContent(new Uint8Array(maxPayload + 1)), { kind: "too_large" });
});

test("a reply, a thread and a forward of a message", () => {
  const text = "é".repeat(200);
  const e = makeEntry({
    conversation: "g:x",
    seq: 3,
    sender: "bob",
    server: 1000,
    ahead: 10,
    payload: encodeContent({ text, thread: 1 }),
  });
  assert.deepEqual(replyTo(e), { seq: 3, sender: "bob", excerpt: "é".repeat(128) });
  assert.equal(threadOf(e), 1);
  assert.equal(threadOf(makeEntry({ payload: Uint8Array.of(0xff) })), 0);
  const again = encodeContent({ text: "", forward: forwardOf(e) });
  assert.deepEqual(parseContent(again).forward, { ...forwardOf(e), time: 990, unknown: undefined });
  assert.equal(previewOf(again).text, text);
});

test("a seq that nobody has checked keeps no text from being shown", () => {
  // Thread 2^64 - 1, which names nothing.
  const payload = Uint8Array.of(0xff, 1, ...fromHex("0a026869"), ...fromHex("20ffffffffffffffffff01"));
  assert.equal(parseContent(payload).text, "hi");
  assert.equal(previewOf(bytes("\ufeffhi")).text, "\ufeffhi");
});
