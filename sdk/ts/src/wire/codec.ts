import type { Message } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { PimError } from "../pim/errors.js";
import { noBytes } from "../pim/text.js";
import { fields as tables, type Messages } from "./pb/pim_fields.js";

// Messages of protobuf to plain objects and back, by the table of fields that is generated from pim.proto, with protobuf-es's
// reader and writer of single values. Its types of messages are used, and its own fromBinary and toBinary are not:
//
//   - They take 20 KiB of the bundle's 35, since they go by descriptors that are themselves read at run time.
//   - They give bigints for what is a number everywhere else in this package.
//   - They read a field of another wire type than its number has as if it were of the right one, and refuse text that is not
//     UTF-8. The readers of pim do it the other way, see wire/testdata/reading.json.
//   - They hand out parts of the frame. A copy keeps a payload of two bytes from holding on to a frame of 256 KiB, in memory and
//     in IndexedDB, which stores the whole buffer that a part is of.
//
// The tests compare both on everything that both can read.

/** A generated message as plain data: 64-bit numbers and enums are numbers. */
export type Plain<T> = T extends bigint | number
  ? number
  : T extends Uint8Array
    ? Uint8Array
    : T extends readonly (infer U)[]
      ? Plain<U>[]
      : T extends Message
        ? { [K in keyof T as K extends `$${string}` ? never : K]: Plain<T[K]> } & Later
        : T;

/** A Plain to be encoded: what it leaves out has its default. */
export type Init<T> = T extends bigint | number
  ? number
  : T extends Uint8Array
    ? Uint8Array
    : T extends readonly (infer U)[]
      ? readonly Init<U>[]
      : T extends Message
        ? { readonly [K in keyof T as K extends `$${string}` ? never : K]?: Init<T[K]> | undefined } & Readonly<Later>
        : T;

/** What a later version has added to a message. */
export interface Later {
  /** Fields of a later version, as they were encoded; missing if there are none. */
  unknown?: Uint8Array;
}

/** A message while it is read or written. */
type Fields = Record<string, unknown>;

/** How the values of a type are read and written, without their tags. */
interface Codec {
  readonly wireType: WireType;
  /** What a field has that was not encoded; undefined for messages. */
  readonly zero: unknown;
  /** Reads a value; before is what the field had, which a message is merged into. */
  read(r: BinaryReader, before?: unknown): unknown;
  write(w: BinaryWriter, value: unknown): void;
}

/** A field of a message. */
interface Field {
  readonly name: string;
  readonly number: number;
  readonly list: boolean;
  readonly codec: Codec;
}

/** The fields of a message type by their numbers, ascending. */
type Plan = ReadonlyMap<number, Field>;

/** A row of the generated table, and the table. */
type Row = readonly [number: number, name: string, type: string];
const rows: Readonly<Record<string, readonly Row[]>> = tables;

const plans = new Map<string, Plan>();

function planOf(name: string): Plan {
  let plan = plans.get(name);
  if (!plan) {
    const table = rows[name];
    if (!table) {
      throw new PimError("internal", `no message has the name ${name}, and no scalar that this version reads`);
    }
    plan = new Map(table.map((row) => [row[0], fieldOf(row, name)]));
    plans.set(name, plan);
  }
  return plan;
}

function fieldOf([number, name, type]: Row, message: string): Field {
  const list = type.endsWith("[]");
  const one = list ? type.slice(0, -2) : type;
  const scalar = one === "uint64" && message === "Command" ? said : scalars[one];
  return { name, number, list, codec: scalar ?? messageCodec(one) };
}

/** Throws what every value meets that the caller gave in a wrong type or range. */
function unfit(what: string, value: unknown): never {
  throw new PimError("invalid", `${String(value)} is not ${what}`);
}

function integer(value: unknown, min: number, max: number): number {
  return typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
    ? value
    : unfit(`an integer from ${min} to ${max}`, value);
}

const { MAX_SAFE_INTEGER } = Number;
const safe = BigInt(MAX_SAFE_INTEGER);

/** Seqs, counts and serials. One that is not a safe integer is refused, since it would become another one. */
const uint64: Codec = {
  wireType: WireType.Varint,
  zero: 0,
  read(r) {
    const v = BigInt(r.uint64());
    return v <= safe ? Number(v) : unfit("a number below 2^53", v);
  },
  write: (w, v) => w.uint64(integer(v, 0, MAX_SAFE_INTEGER)),
};

/**
 * Seqs and counts of a Command. Another device of the user says some of them, and earlier servers have taken whatever was said.
 * One that is not a safe integer becomes the greatest: devices that read the command would have another setting than those that
 * refuse it.
 */
const said: Codec = {
  ...uint64,
  read(r) {
    const v = BigInt(r.uint64());
    return v <= safe ? Number(v) : MAX_SAFE_INTEGER;
  },
};

/**
 * Times. One that is not a safe integer becomes the nearest that is. A sender may say anything of the local time, and a frame
 * that is refused ends the connection: one message would keep all of a group off. It makes no difference, since no clock
 * shows such times, and whatever orders by them clamps them.
 */
const int64: Codec = {
  wireType: WireType.Varint,
  zero: 0,
  read(r) {
    const v = BigInt(r.int64());
    return Number(v > safe ? safe : v < -safe ? -safe : v);
  },
  write: (w, v) => w.int64(integer(v, -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)),
};

const uint32: Codec = {
  wireType: WireType.Varint,
  zero: 0,
  read: (r) => r.uint32(),
  write: (w, v) => w.uint32(integer(v, 0, 2 ** 32 - 1)),
};

/** A number that a later version uses stays what it is. */
const enumeration: Codec = {
  wireType: WireType.Varint,
  zero: 0,
  read: (r) => r.int32(),
  write: (w, v) => w.int32(integer(v, -(2 ** 31), 2 ** 31 - 1)),
};

const bool: Codec = {
  wireType: WireType.Varint,
  zero: false,
  read: (r) => r.bool(),
  write: (w, v) => w.bool(typeof v === "boolean" ? v : unfit("a boolean", v)),
};

/** It leaves U+FEFF at the beginning, and makes U+FFFD of what is no UTF-8. */
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

const string: Codec = {
  wireType: WireType.LengthDelimited,
  zero: "",
  read: (r) => utf8.decode(r.bytes()),
  write: (w, v) => w.string(typeof v === "string" ? v : unfit("a string", v)),
};

const bytes: Codec = {
  wireType: WireType.LengthDelimited,
  zero: noBytes,
  read: (r) => r.bytes().slice(),
  write: (w, v) => w.bytes(v instanceof Uint8Array ? v : unfit("bytes", v)),
};

const scalars: Readonly<Record<string, Codec>> = { uint64, int64, uint32, enum: enumeration, bool, string, bytes };

function messageCodec(name: string): Codec {
  return {
    wireType: WireType.LengthDelimited,
    zero: undefined,
    read: (r, before) => readFields(planOf(name), r.bytes(), isFields(before) ? before : undefined),
    write(w, v) {
      w.fork();
      writeFields(planOf(name), w, isFields(v) ? v : unfit(`a ${name}`, v));
      w.join();
    },
  };
}

function isFields(v: unknown): v is Fields {
  return typeof v === "object" && v !== null;
}

function readFields(plan: Plan, body: Uint8Array, m: Fields = emptyFields(plan)): Fields {
  const later: Uint8Array[] = [];
  const r = new BinaryReader(body);
  while (r.pos < r.len) {
    const start = r.pos;
    const [number, wireType] = r.tag();
    const f = plan.get(number);
    if (f) {
      readField(f, m, r, wireType);
    } else {
      skip(r, wireType, number);
      later.push(body.subarray(start, r.pos));
    }
  }
  if (later.length > 0) {
    const { unknown } = m;
    m["unknown"] = joined(unknown instanceof Uint8Array ? [unknown, ...later] : later);
  }
  return m;
}

function emptyFields(plan: Plan): Fields {
  const m: Fields = {};
  for (const f of plan.values()) {
    if (f.list) {
      m[f.name] = [];
    } else if (f.codec.zero !== undefined) {
      m[f.name] = f.codec.zero;
    }
  }
  return m;
}

/** Passes over a field of a later version. */
function skip(r: BinaryReader, wireType: WireType, number: number): void {
  if (wireType === WireType.Varint) {
    r.uint64(); // skip would take a number of any length
  } else {
    r.skip(wireType, number);
  }
}

function readField(f: Field, m: Fields, r: BinaryReader, wireType: WireType): void {
  const list = m[f.name];
  if (!Array.isArray(list)) {
    checkWireType(f, wireType);
    m[f.name] = f.codec.read(r, m[f.name]);
  } else if (wireType === WireType.LengthDelimited && f.codec.wireType === WireType.Varint) {
    const packed = new BinaryReader(r.bytes());
    while (packed.pos < packed.len) {
      list.push(f.codec.read(packed));
    }
  } else {
    checkWireType(f, wireType);
    list.push(f.codec.read(r));
  }
}

function checkWireType(f: Field, wireType: WireType): void {
  if (wireType !== f.codec.wireType) {
    throw new PimError("invalid", `field ${f.number} has wire type ${wireType}`);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const w = new BinaryWriter();
  parts.forEach((part) => w.raw(part));
  return w.finish();
}

function writeFields(plan: Plan, w: BinaryWriter, m: Fields): void {
  for (const f of plan.values()) {
    const value = m[f.name];
    if (f.list) {
      writeList(f, w, value ?? []);
    } else if (value !== undefined && value !== f.codec.zero && !isEmpty(value)) {
      f.codec.write(w.tag(f.number, f.codec.wireType), value);
    }
  }
  const { unknown } = m;
  if (unknown instanceof Uint8Array) {
    w.raw(unknown);
  }
}

function isEmpty(value: unknown): boolean {
  return value instanceof Uint8Array && value.length === 0;
}

function writeList(f: Field, w: BinaryWriter, list: unknown): void {
  if (!Array.isArray(list)) {
    unfit("a list", list);
  }
  if (f.codec.wireType === WireType.Varint && list.length > 0) {
    w.tag(f.number, WireType.LengthDelimited).fork();
    list.forEach((value) => f.codec.write(w, value));
    w.join();
    return;
  }
  list.forEach((value) => f.codec.write(w.tag(f.number, f.codec.wireType), value));
}

/** The name of a message of pim.proto. */
export type MessageName = keyof Messages;

/**
 * Returns the message that body encodes; it shares nothing with body. It throws a PimError of kind "invalid" if body cannot be
 * read, or has a seq, a count or a serial of 2^53 or more. A time beyond that is taken as the nearest safe integer, and so is any
 * number in a Command.
 */
export function readMessage<N extends MessageName>(name: N, body: Uint8Array): Plain<Messages[N]> {
  try {
    return readFields(planOf(name), body) as Plain<Messages[N]>;
  } catch (err) {
    throw new PimError("invalid", `${name}: ${err instanceof Error ? err.message : String(err)}`, { cause: err });
  }
}

/**
 * Returns the encoding of m: the fields in the order of their numbers, defaults left out, as every SDK of pim writes them. It
 * throws a PimError of kind "invalid" if a value is of a wrong type or range, which is a defect of the caller.
 */
export function writeMessage<N extends MessageName>(name: N, m: Init<Messages[N]>): Uint8Array {
  const w = new BinaryWriter();
  writeFields(planOf(name), w, m as Fields);
  return w.finish();
}
