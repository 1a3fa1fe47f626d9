import { create, type DescMessage, fromBinary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { test } from "node:test";
import { kinds, makeCommand, makeEntry, maxFrame, PimError } from "../src/pim/index.js";
import { readMessage } from "../src/wire/codec.js";
import {
  Code,
  codeName,
  cutTCP,
  decode,
  decodeCommand,
  encode,
  encodeCommand,
  encodeEntry,
  encodeFold,
  errorOf,
  type Frame,
  frameNumbers,
  frameTCP,
  parseCommand,
  parseEntry,
  parseFold,
  readFold,
  reconnects,
} from "../src/wire/index.js";
import * as pb from "../src/wire/pb/pim_pb.js";
import { casesOf, ran } from "./conformance.js";
import { fieldOf, toMessage } from "./plain.js";

/** One case of wire/testdata/vectors.json. */
interface Vector {
  name: string;
  frame: string;
  type: number;
  fields: JsonValue;
  hex: string;
  tcp: string;
}

/** One case of wire/testdata/reading.json. */
interface Reading {
  name: string;
  tcp: string;
  frame?: string;
  fields?: JsonValue;
  skip?: boolean;
  close?: number;
  wait?: boolean;
}

const vectorsFile = "wire/testdata/vectors.json";
const readingFile = "wire/testdata/reading.json";

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function schemaOf(frame: string): DescMessage {
  const schema = pb.file_pim.messages.find((m) => m.name === frame);
  assert.ok(schema, `no message ${frame}`);
  return schema;
}

/** Checks that frame has the name and the fields, as protobuf JSON. */
function has(frame: Frame | undefined, name: string, fields: JsonValue): asserts frame is Frame {
  assert.equal(frame?.type, name);
  const schema = schemaOf(name);
  assert.deepEqual(toMessage(schema, frame.body), fromJson(schema, fields));
}

/** Frames that the SDK leaves out, and skips. */
const leftOut = ["PIMDevicesReq", "PIMDevicesResp"];

test("vectors", async (t) => {
  const covered = new Set<string>();
  for (const v of casesOf<Vector[]>(vectorsFile)) {
    await t.test(v.name, () => {
      const bytes = fromHex(v.hex);
      const frame = decode(bytes);
      if (leftOut.includes(v.frame)) {
        assert.equal(frame, undefined);
        ran(vectorsFile, v.name);
        return;
      }
      covered.add(v.frame);
      has(frame, v.frame, v.fields);
      assert.equal(bytes[0], v.type);
      assert.equal(toHex(encode(frame)), v.hex, "encoded again");
      assert.equal(toHex(frameTCP(bytes)), v.tcp);
      checkInside(frame);
      ran(vectorsFile, v.name);
    });
  }
  assert.deepEqual([...covered].sort(), Object.keys(frameNumbers).sort(), "frames with a vector, and frames of this version");
});

/** Checks that entries, folds and commands in frame come back as they were. */
function checkInside(frame: Frame): void {
  if (frame.type === "PIMPush" || frame.type === "PIMPullResp") {
    for (const body of frame.body.entries) {
      const bytes = toBinary(pb.EntrySchema, toMessage(pb.EntrySchema, body));
      assert.equal(toHex(encodeEntry(parseEntry(frame.body.conversation, bytes))), toHex(bytes));
    }
  }
  if (frame.type === "PIMPullResp") {
    for (const body of frame.body.folds) {
      const bytes = toBinary(pb.FoldSchema, toMessage(pb.FoldSchema, body));
      assert.equal(toHex(encodeFold(parseFold(bytes))), toHex(bytes));
    }
  }
  if (frame.type === "PIMSendReq" && frame.body.kind === pb.EntryKind.COMMAND) {
    assert.equal(toHex(encodeCommand(parseCommand(frame.body.payload))), toHex(frame.body.payload));
  }
}

test("reading", async (t) => {
  for (const c of casesOf<Reading[]>(readingFile)) {
    await t.test(c.name, () => {
      let frame: Frame | undefined;
      let waits = false;
      let code = 0;
      try {
        const cut = cutTCP(fromHex(c.tcp), maxFrame);
        waits = cut.need > 0;
        frame = cut.frame && decode(cut.frame);
      } catch (err) {
        assert.ok(err instanceof PimError, String(err));
        code = err.kind === "too_large" ? Code.too_large : Code.protocol;
      }
      assert.equal(code, c.close ?? 0);
      assert.equal(waits, c.wait ?? false);
      assert.equal(code === 0 && !waits && frame === undefined, c.skip ?? false);
      if (c.frame !== undefined) {
        has(frame, c.frame, c.fields ?? {});
      }
      ran(readingFile, c.name);
    });
  }
});

test("every field has a vector", () => {
  // What encodes to the same bytes as another library, for every field that there is, is right about all of them.
  const seen = new Set<string>();
  const note = (schema: DescMessage, m: object): void => {
    for (const f of schema.fields) {
      const value = fieldOf(m, f.localName);
      if (
        value === undefined ||
        value === 0 ||
        value === "" ||
        value === false ||
        (value as { length?: number }).length === 0
      ) {
        continue;
      }
      seen.add(f.toString());
      for (const inner of f.message ? [value].flat() : []) {
        note(f.message ?? schema, inner as object);
      }
    }
  };
  for (const v of casesOf<Vector[]>(vectorsFile).filter((v) => !leftOut.includes(v.frame))) {
    const frame = decode(fromHex(v.hex));
    assert.ok(frame);
    note(schemaOf(v.frame), frame.body);
    if (frame.type === "PIMSendReq" && frame.body.kind === pb.EntryKind.COMMAND) {
      note(pb.CommandSchema, readMessage("Command", frame.body.payload));
    } else if (frame.type === "PIMSendAck") {
      note(pb.CommandSchema, readMessage("Command", frame.body.payload));
    }
  }
  const known = pb.file_pim.messages.filter((m) => m.name !== "Device" && !leftOut.includes(m.name));
  const all = known.flatMap((m) => m.fields.map((f) => f.toString()));
  assert.deepEqual([...seen].sort(), all.sort());
});

const greatest = Number.MAX_SAFE_INTEGER;

test("numbers beyond 2^53", () => {
  const ping = (nonce: bigint): Uint8Array =>
    Uint8Array.of(13, ...toBinary(pb.PIMPingSchema, create(pb.PIMPingSchema, { nonce })));
  assert.deepEqual(decode(ping(BigInt(greatest))), { type: "PIMPing", body: { nonce: greatest, heartbeatMs: 0 } });
  for (const nonce of [2n ** 53n, 2n ** 64n - 1n]) {
    assert.throws(() => decode(ping(nonce)), { name: "PimError", kind: "invalid" });
  }
  // A sender says the local time, and must not be able to keep others off by it.
  for (const [localMs, want] of [
    [2n ** 63n - 1n, greatest],
    [-(2n ** 63n), -greatest],
    [-1n, -1],
  ] as const) {
    const entry = create(pb.EntrySchema, { seq: 1n, clientMessageId: new Uint8Array(16), localMs });
    assert.equal(parseEntry("g:x", toBinary(pb.EntrySchema, entry)).local, want);
  }
  const command = create(pb.CommandSchema, { kind: pb.CommandKind.PIN, subject: "g:x", known: 2n ** 64n - 1n });
  assert.equal(parseCommand(toBinary(pb.CommandSchema, command)).known, greatest);
  for (const nonce of [-1, 0.5, 2 ** 53, NaN, Infinity]) {
    assert.throws(() => encode({ type: "PIMPing", body: { nonce } }), { name: "PimError", kind: "invalid" });
  }
});

test("what a later version adds is the same after it was read and written", () => {
  const unknown = fromHex("987507 a275026869");
  const e = makeEntry({
    conversation: "g:x",
    seq: 3,
    anchor: 3,
    kind: 300,
    sender: "ann",
    payload: fromHex("78"),
    unknown,
  });
  assert.deepEqual(parseEntry("g:x", encodeEntry(e)), e);
  assert.deepEqual(fromBinary(pb.EntrySchema, encodeEntry(e)).$unknown?.length, 2);
  const pin = makeCommand({ kind: 4, subject: "g:x", unknown });
  assert.deepEqual(parseCommand(encodeCommand(pin)), pin);
  const later = makeCommand({ ...pin, kind: 99 });
  assert.throws(() => parseCommand(encodeCommand(later)), { name: "PimError", kind: "unsupported" });
  assert.deepEqual(decodeCommand(encodeCommand(later)), later);
  for (const kind of [2 ** 32 - 255, 2 ** 32 - 1, 255, 257, 1 << 20]) {
    assert.equal(parseEntry("g:x", encodeEntry(makeEntry({ ...e, kind }))).kind, kind);
    assert.equal(decodeCommand(encodeCommand(makeCommand({ kind }))).kind, kind);
  }
});

test("a body shares nothing with its frame", () => {
  for (const v of casesOf<Vector[]>(vectorsFile)) {
    const bytes = fromHex(v.hex);
    const frame = decode(bytes);
    bytes.fill(0);
    assert.deepEqual(frame, decode(fromHex(v.hex)));
    if (frame?.type === "PIMSendReq") {
      assert.equal(frame.body.payload.buffer.byteLength, frame.body.payload.length); // IndexedDB stores the whole buffer
    }
  }
});

test("text is what it was, and never broken UTF-8", () => {
  const bodies = ["\ufeffhi", "👍", "\u0000", "á\ud800b"].map((subject) => encodeCommand(makeCommand({ subject })));
  assert.deepEqual(
    bodies.map((body) => decodeCommand(body).subject),
    ["\ufeffhi", "👍", "\u0000", "á\ufffdb"],
  );
  assert.equal(decodeCommand(fromHex("1203 61ff62")).subject, "a\ufffdb");
});

test("a message that comes twice is one, and lists of numbers come packed or not", () => {
  const twice = fromHex(
    "08 01 1a04 0801 1203 1a02 1005".replace("08 01 1a04 0801 1203 1a02 1005", "08011a0208051a0312016122021801"),
  );
  const fold = readMessage("Fold", twice);
  const es = fromBinary(pb.FoldSchema, twice);
  assert.equal(fold.edit?.seq, Number(es.edit?.seq));
  assert.equal(fold.edit?.by, es.edit?.by);
  for (const counts of ["62020700", "60076000"]) {
    assert.deepEqual(readMessage("PIMSendAck", fromHex(counts)).mentionCounts, [7, 0]);
  }
});

test("folds and entries that are none", () => {
  const reaction = (text: string, ...users: string[]) => ({
    text,
    by: users.map((user) => ({ user, seq: 1, removed: false })),
  });
  const body = { target: 1, upto: 0, reactions: [reaction("a", "x", "y"), reaction("b", "x")] };
  assert.equal(readFold(body).reactions.length, 3);
  for (const bad of [
    { ...body, target: 0 },
    { ...body, reactions: [reaction("b", "x"), reaction("a", "x")] },
    { ...body, reactions: [reaction("a", "x", "x")] },
  ]) {
    assert.throws(() => readFold(bad), { name: "PimError", kind: "invalid" });
  }
  assert.throws(() => parseEntry("g:x", new Uint8Array(0)), { name: "PimError", kind: "invalid" });
  assert.throws(() => parseEntry("g:x", fromHex("ffff")), { name: "PimError", kind: "corrupt" });
  assert.throws(() => parseEntry("g:x", fromHex("0801")), { name: "PimError", kind: "invalid" });
});

test("a frame above the limit", () => {
  assert.throws(() => decode(new Uint8Array(maxFrame + 1)), { name: "PimError", kind: "too_large" });
});

test("errors cross", () => {
  const error = (kind: number, retryable: boolean) =>
    errorOf({
      ...readMessage("PIMError", new Uint8Array(0)),
      kind,
      retryable,
      text: "full",
      retryAfterMs: 1500,
    });
  const err = error(kinds.indexOf("overloaded"), true);
  assert.deepEqual([err.kind, err.text, err.retryAfter, err.message], ["overloaded", "full", 1500, "full (overloaded)"]);
  for (const kind of [-255, -1, 255, 257, 1 << 20]) {
    assert.equal(error(kind, true).kind, "unavailable");
    assert.equal(error(kind, false).kind, "invalid");
  }
});

test("kinds and codes are the same on the wire", () => {
  const names = pb.ErrorKindSchema.values.map((v) => v.localName.toLowerCase());
  assert.deepEqual(names, kinds);
  assert.equal(codeName(Code.too_large), "too_large");
  assert.equal(codeName(4999), "other");
  for (const code of Object.values(Code)) {
    assert.equal(reconnects(code), code < 4100);
  }
});
