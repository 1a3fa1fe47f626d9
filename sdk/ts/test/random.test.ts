import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import assert from "node:assert/strict";
import { test } from "node:test";
import { PimError } from "../src/pim/index.js";
import { Reader, WireType, Writer } from "../src/proto/wire.js";
import { readMessage, writeMessage } from "../src/wire/codec.js";
import { cutTCP, decode, entryOf, type FrameName, parseCommand, parseEntry, parseFold, readFold } from "../src/wire/index.js";
import * as pb from "../src/wire/pb/pim_pb.js";
import { casesOf } from "./conformance.js";
import { toMessage } from "./plain.js";
import { firstSeed, Random } from "./random.js";

const vectors = casesOf<{ hex: string }[]>("wire/testdata/vectors.json").map((v) => Buffer.from(v.hex, "hex"));

/** Returns a frame that is no frame, or still one: a vector in which some bytes were changed, cut out or put in. */
function hostile(r: Random): Uint8Array {
  if (r.below(10) === 0) {
    return r.bytes(r.below(60));
  }
  const frame = [...r.pick(vectors)];
  for (let n = r.below(4); n > 0; n--) {
    const at = r.below(frame.length + 1);
    const bytes = r.below(3) === 0 ? [...r.pick(vectors)].slice(r.below(40)).slice(0, r.below(20)) : [...r.bytes(1)];
    frame.splice(at, r.below(3), ...bytes);
  }
  return Uint8Array.from(frame);
}

/** Calls read, which may throw a PimError of a known kind and nothing else; undefined if it has. */
function tried<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (err) {
    assert.ok(err instanceof PimError && err.kind !== "unknown" && err.kind !== "internal", String(err));
    return undefined;
  }
}

/** Returns what read returns, as text, with where the reader stands then; undefined if it throws. */
function valueOf<R extends { pos: number }>(r: R, read: (r: R) => unknown): string | undefined {
  try {
    return `${String(read(r))} up to ${r.pos}`;
  } catch {
    return undefined;
  }
}

function skip(r: Reader, wireType: number, number: number): void {
  r.wireType = wireType;
  r.skip(number);
}

test("single values are those of protobuf-es", () => {
  const seed = firstSeed();
  const { MAX_SAFE_INTEGER } = Number;
  const near = (v: bigint | string | number): number => Math.max(-MAX_SAFE_INTEGER, Math.min(Number(v), MAX_SAFE_INTEGER));
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const r = new Random(seed + i);
    // Most bytes go on with a number, or are tags of the first fields.
    const body = r.bytes(r.below(24)).map((b) => (r.below(3) === 0 ? b | 128 : r.below(2) === 0 ? b & 15 : b));
    const tooLong = /1{10}/.test([...body].map((b) => b >> 7).join(""));
    const [number, wireType] = [1 + r.below(3), r.below(7)];
    for (const [name, mine, theirs] of [
      ["tag", (m: Reader) => [m.tag(), m.wireType], (m: BinaryReader) => m.tag()],
      ["uint32", (m: Reader) => m.uint32(), (m: BinaryReader) => m.uint32()],
      ["int32", (m: Reader) => m.int32(), (m: BinaryReader) => m.int32()],
      ["bool", (m: Reader) => m.bool(), (m: BinaryReader) => m.bool()],
      ["uint64", (m: Reader) => near(m.uint64()), (m: BinaryReader) => near(m.uint64())],
      ["int64", (m: Reader) => near(m.int64()), (m: BinaryReader) => near(m.int64())],
      ["bytes", (m: Reader) => m.bytes(), (m: BinaryReader) => m.bytes()],
      ["skip", (m: Reader) => skip(m, wireType, number), (m: BinaryReader) => void m.skip(wireType, number)],
    ] as const) {
      const [is, want] = [valueOf(new Reader(body), mine), valueOf(new BinaryReader(body), theirs)];
      read += is === undefined ? 0 : 1;
      if (name === "skip" && is === undefined && tooLong) {
        continue; // protobuf-es passes over numbers of any length
      }
      assert.equal(is, want, `${name} of ${Buffer.from(body).toString("hex")}, ${number} ${wireType}`);
    }
  }
  assert.ok(read > 20_000);

  const deep = (n: number): Uint8Array => Uint8Array.from([...Array<number>(n).fill(0x0b), ...Array<number>(n + 1).fill(0x0c)]);
  for (const n of [98, 99, 100, 101, 10_000]) {
    const is = valueOf(new Reader(deep(n)), (m) => skip(m, WireType.startGroup, 1));
    const want = valueOf(new BinaryReader(deep(n)), (m) => void m.skip(WireType.startGroup, 1));
    assert.equal(is, want, `${n} groups`);
  }
});

test("single values are written as by protobuf-es", () => {
  const r = new Random(firstSeed());
  const sizes = [
    0,
    1,
    127,
    128,
    16_383,
    16_384,
    2 ** 21,
    2 ** 28,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 35,
    2 ** 49,
    Number.MAX_SAFE_INTEGER,
  ];
  const values = [...sizes, ...Array.from({ length: 2_000 }, () => Math.floor(r.pick(sizes) * (r.bits() / 2 ** 32)))];
  for (const value of values.flatMap((v) => [v, -v])) {
    const text = "aé€😀\u{feff}\ud800".repeat(r.below(60));
    const some = r.bytes(r.below(300));
    const mine = new Writer();
    mine.tag(3, 2).within(() => {
      mine.int(value).string(text);
      mine.within(() => mine.bytes(some));
      mine.raw(some);
    });
    const theirs = new BinaryWriter();
    theirs.tag(3, 2).fork().int64(value).string(text).fork().bytes(some).join().raw(some).join();
    assert.deepEqual(mine.finish(), theirs.finish(), `${value}`);
  }
});

test("random bytes are read or refused", { timeout: 600_000 }, () => {
  const seed = firstSeed();
  const read = { frames: 0, bodies: 0, entries: 0 };
  for (let i = 0; i < 2_000; i++) {
    const bytes = hostile(new Random(seed + i));
    const frame = tried(() => decode(bytes));
    tried(() => cutTCP(bytes, 1000));
    tried(() => parseEntry("g:x", bytes.subarray(1)));
    tried(() => parseCommand(bytes.subarray(1)));
    tried(() => parseFold(bytes.subarray(1)));
    read.frames += frame ? 1 : 0;
    if (frame) {
      const schema = pb.file_pim.messages.find((m) => m.name === frame.type);
      assert.ok(schema);
      compare(schema, frame.type, bytes.subarray(1), frame.body, `seed ${seed + i}`);
      read.bodies++;
    }
    if (frame?.type === "PIMPullResp") {
      const { conversation, entries, folds } = frame.body;
      entries.forEach((m) => tried(() => entryOf(conversation, m)) && read.entries++);
      folds.forEach((m) => tried(() => readFold(m)));
    }
  }
  // The schedule is not one that refuses everything.
  assert.ok(read.bodies > 200 && read.entries > 10, JSON.stringify(read));
});

/** Checks that protobuf-es reads the same out of body, and that what both write is the same. */
function compare(schema: DescMessage, name: FrameName, body: Uint8Array, got: object, seed: string): void {
  const want = inUTF8(() => fromBinary(schema, body, { readUnknownFields: false }));
  if (!want) {
    return;
  }
  assert.deepEqual(plain(toMessage(schema, got)), plain(want), seed);
  const again = readMessage(name, writeMessage(name, got));
  assert.deepEqual(again, got, seed);
  assert.deepEqual(toBinary(schema, toMessage(schema, got)), writeMessage(name, withoutUnknown(got)), seed);
}

/** Calls read, which refuses what is not UTF-8; then it gives undefined. The servers and SDKs of pim take it. */
function inUTF8<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (err) {
    assert.ok(err instanceof TypeError && /utf-8/.test(err.message), String(err));
    return undefined;
  }
}

/** Returns a message as JSON holds it, with the nearest safe integer for a time beyond 2^53. */
function plain(message: object): unknown {
  const near = (n: bigint) => Math.max(Math.min(Number(n), Number.MAX_SAFE_INTEGER), Number.MIN_SAFE_INTEGER);
  return JSON.parse(JSON.stringify(message, (_, value: unknown) => (typeof value === "bigint" ? near(value) : value)));
}

/** Returns m and the messages in it without the fields of a later version. */
function withoutUnknown(m: object): object {
  const known = Object.entries(m).filter(([name]) => name !== "unknown");
  return Object.fromEntries(
    known.map(([name, value]: [string, unknown]) => {
      if (Array.isArray(value)) {
        return [name, value.map((v: unknown) => (isMessage(v) ? withoutUnknown(v) : v))];
      }
      return [name, isMessage(value) ? withoutUnknown(value) : value];
    }),
  );
}

function isMessage(v: unknown): v is object {
  return typeof v === "object" && v !== null && !(v instanceof Uint8Array);
}
