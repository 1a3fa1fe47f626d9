import type { Message } from "@bufbuild/protobuf";
import { PimError } from "../pim/errors.js";
import { noBytes } from "../pim/text.js";
import { Reader, WireType, Writer } from "./wire.js";

// Messages of protobuf to plain objects and back, by a table of fields that is generated from a .proto file. protobuf-es's types of
// messages are used, and its own fromBinary and toBinary are not:
//
//   - They take some 20 KiB of a bundle, since they go by descriptors that are themselves read at run time.
//   - They give bigints for what is a number everywhere else in this package.
//   - They read a field of another wire type than its number has as if it were of the right one, which the readers of pim refuse
//     (wire/testdata/reading.json), and refuse text that is not UTF-8, which these take in frames.
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
  unknown?: Uint8Array | undefined;
}

/** A message while it is read or written. */
type Fields = Record<string, unknown>;

/** How the values of a type are read and written, without their tags. */
interface Type {
  readonly wireType: number;
  /** What a field has that was not encoded; undefined for messages. */
  readonly zero: unknown;
  /** Reads a value; before is what the field had, which a message is merged into. */
  read(r: Reader, before?: unknown): unknown;
  write(w: Writer, value: unknown): void;
}

/** A field of a message. */
interface Field {
  readonly name: string;
  readonly number: number;
  readonly list: boolean;
  readonly type: Type;
}

/** A message type. */
interface Plan {
  /** By their numbers, ascending. */
  readonly fields: ReadonlyMap<number, Field>;
  /** What a message has without those that are lists. */
  readonly zero: Fields;
  /** The names of the lists. */
  readonly lists: readonly string[];
}

/** A row of a generated table: a field's name and type; empty if no field has this number. */
type Row = string;

/** How a codec takes what another sender may have written, beyond what the .proto file says. */
export interface Manners {
  /**
   * The messages in which a uint64 that is not a safe integer becomes the greatest, and is not refused; all messages if it is
   * missing.
   */
  readonly saturated?: readonly string[];
  /** Text that is not UTF-8 is refused; else U+FFFD stands for what is none. */
  readonly strictText: boolean;
}

/** Reads and writes the messages of one .proto file; M has their types by their names. */
export interface Codec<M extends { [N in keyof M]: Message }> {
  /**
   * Returns the message that body encodes; it shares nothing with body. It throws a PimError of kind "invalid" if body cannot be
   * read, or has a uint64 of 2^53 or more that does not become the greatest safe integer, see Manners. An int64 beyond that is
   * taken as the nearest safe integer.
   */
  read<N extends keyof M & string>(name: N, body: Uint8Array): Plain<M[N]>;
  /**
   * Returns the encoding of m: the fields in the order of their numbers, defaults left out, as every SDK of pim writes them. It
   * throws a PimError of kind "invalid" if a value is of a wrong type or range, which is a defect of the caller.
   */
  write<N extends keyof M & string>(name: N, m: Init<M[N]>): Uint8Array;
}

/** Returns the codec of a generated table. */
export function codecOf<M extends { [N in keyof M]: Message }>(
  table: { readonly [N in keyof M]: readonly Row[] },
  manners: Manners,
): Codec<M> {
  const plans = new Map<string, Plan>();
  const rows: Readonly<Record<string, readonly Row[]>> = table;
  const types: Readonly<Record<string, Type>> = { ...scalars, string: manners.strictText ? strictText : text };
  const planOf = (name: string): Plan => {
    let plan = plans.get(name);
    if (!plan) {
      const fields = rows[name];
      if (!fields) {
        throw new PimError("internal", `no message has the name ${name}, and no scalar that this version reads`);
      }
      const saturates = manners.saturated?.includes(name) ?? true;
      const all = new Map<number, Field>();
      fields.forEach((row, i) => {
        const [field = "", type = ""] = row.split(" ");
        const one = type.replace("[]", "");
        const known = one === "uint64" && saturates ? said : types[one];
        if (row !== "") {
          all.set(i + 1, { name: field, number: i + 1, list: one !== type, type: known ?? messageType(one, planOf) });
        }
      });
      const zero: Fields = {};
      for (const { name, list, type } of all.values()) {
        if (!list && type.zero !== undefined) {
          zero[name] = type.zero;
        }
      }
      plan = { fields: all, zero, lists: [...all.values()].filter((f) => f.list).map((f) => f.name) };
      plans.set(name, plan);
    }
    return plan;
  };
  return {
    read<N extends keyof M & string>(name: N, body: Uint8Array): Plain<M[N]> {
      try {
        return readFields(planOf(name), body) as Plain<M[N]>;
      } catch (err) {
        throw new PimError("invalid", `${name}: ${err instanceof Error ? err.message : String(err)}`, { cause: err });
      }
    },
    write<N extends keyof M & string>(name: N, m: Init<M[N]>): Uint8Array {
      const w = new Writer();
      writeFields(planOf(name), w, m as Fields);
      return w.finish();
    },
  };
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

/** Seqs, counts and serials. One that is not a safe integer is refused, since it would become another one. */
const uint64: Type = {
  wireType: WireType.varint,
  zero: 0,
  read(r) {
    const v = r.uint64();
    return v <= MAX_SAFE_INTEGER ? v : unfit("a number below 2^53", v);
  },
  write: (w, v) => w.int(integer(v, 0, MAX_SAFE_INTEGER)),
};

/**
 * A number that another device says, and that no server has checked. One that is not a safe integer becomes the greatest: it
 * names nothing all the same.
 */
const said: Type = {
  ...uint64,
  read: (r) => Math.min(r.uint64(), MAX_SAFE_INTEGER),
};

/**
 * Times. One that is not a safe integer becomes the nearest that is. A sender may say anything of the local time, and a frame
 * that is refused ends the connection: one message would keep all of a group off. It makes no difference, since no clock
 * shows such times, and whatever orders by them clamps them.
 */
const int64: Type = {
  wireType: WireType.varint,
  zero: 0,
  read: (r) => Math.max(-MAX_SAFE_INTEGER, Math.min(r.int64(), MAX_SAFE_INTEGER)),
  write: (w, v) => w.int(integer(v, -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)),
};

const uint32: Type = {
  wireType: WireType.varint,
  zero: 0,
  read: (r) => r.uint32(),
  write: (w, v) => w.int(integer(v, 0, 2 ** 32 - 1)),
};

/** A number that a later version uses stays what it is. */
const enumeration: Type = {
  wireType: WireType.varint,
  zero: 0,
  read: (r) => r.int32(),
  write: (w, v) => w.int(integer(v, -(2 ** 31), 2 ** 31 - 1)),
};

const bool: Type = {
  wireType: WireType.varint,
  zero: false,
  read: (r) => r.bool(),
  write: (w, v) => w.int(Number(typeof v === "boolean" ? v : unfit("a boolean", v))),
};

/** Both leave U+FEFF at the beginning. */
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Returns what bytes say by decoder, of which a call costs as much as some 50 bytes here. */
function textOf(bytes: Uint8Array, decoder: TextDecoder): string {
  return bytes.length < 50 && bytes.every((b) => b < 128) ? String.fromCharCode(...bytes) : decoder.decode(bytes);
}

const text: Type = {
  wireType: WireType.delimited,
  zero: "",
  read: (r) => textOf(r.bytes(), lenient),
  write: (w, v) => w.string(typeof v === "string" ? v : unfit("a string", v)),
};

const strictText: Type = { ...text, read: (r) => textOf(r.bytes(), strict) };

const bytes: Type = {
  wireType: WireType.delimited,
  zero: noBytes,
  read: (r) => r.bytes().slice(),
  write: (w, v) => w.bytes(v instanceof Uint8Array ? v : unfit("bytes", v)),
};

const scalars = { uint64, int64, uint32, enum: enumeration, bool, bytes };

function messageType(name: string, planOf: (name: string) => Plan): Type {
  return {
    wireType: WireType.delimited,
    zero: undefined,
    read: (r, before) => readFields(planOf(name), r.bytes(), isFields(before) ? before : undefined),
    write(w, v) {
      w.within(() => writeFields(planOf(name), w, isFields(v) ? v : unfit(`a ${name}`, v)));
    },
  };
}

function isFields(v: unknown): v is Fields {
  return typeof v === "object" && v !== null;
}

function readFields(plan: Plan, body: Uint8Array, m: Fields = emptyFields(plan)): Fields {
  const later: Uint8Array[] = [];
  const r = new Reader(body);
  while (r.pos < r.len) {
    const start = r.pos;
    const number = r.tag();
    const f = plan.fields.get(number);
    if (f) {
      readField(f, m, r);
    } else {
      r.skip(number);
      later.push(body.subarray(start, r.pos));
    }
  }
  if (later.length > 0) {
    const { unknown } = m;
    m["unknown"] = joined(unknown instanceof Uint8Array ? [unknown, ...later] : later);
  }
  return m;
}

function emptyFields({ zero, lists }: Plan): Fields {
  const m = { ...zero };
  for (const name of lists) {
    m[name] = [];
  }
  return m;
}

function readField(f: Field, m: Fields, r: Reader): void {
  const list = m[f.name];
  if (!Array.isArray(list)) {
    checkWireType(f, r);
    m[f.name] = f.type.read(r, m[f.name]);
  } else if (r.wireType === WireType.delimited && f.type.wireType === WireType.varint) {
    const packed = new Reader(r.bytes());
    while (packed.pos < packed.len) {
      list.push(f.type.read(packed));
    }
  } else {
    checkWireType(f, r);
    list.push(f.type.read(r));
  }
}

function checkWireType(f: Field, { wireType }: Reader): void {
  if (wireType !== f.type.wireType) {
    throw new PimError("invalid", `field ${f.number} has wire type ${wireType}`);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const w = new Writer();
  parts.forEach((part) => w.raw(part));
  return w.finish();
}

function writeFields(plan: Plan, w: Writer, m: Fields): void {
  for (const f of plan.fields.values()) {
    const value = m[f.name];
    if (f.list) {
      writeList(f, w, value ?? []);
    } else if (value !== undefined && value !== f.type.zero && !isEmpty(value)) {
      f.type.write(w.tag(f.number, f.type.wireType), value);
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

function writeList(f: Field, w: Writer, list: unknown): void {
  if (!Array.isArray(list)) {
    unfit("a list", list);
  }
  if (f.type.wireType === WireType.varint && list.length > 0) {
    w.tag(f.number, WireType.delimited).within(() => list.forEach((value) => f.type.write(w, value)));
    return;
  }
  list.forEach((value) => f.type.write(w.tag(f.number, f.type.wireType), value));
}
