import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { test } from "node:test";
import { PimError } from "../src/pim/index.js";
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
