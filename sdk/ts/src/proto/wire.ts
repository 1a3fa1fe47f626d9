// Single values of protobuf to bytes and back. What can be read, and what is refused, is as in protobuf-es, which the tests compare
// this with; it has everything that protobuf knows, and takes 10 KiB before gzip for it.

/** How the value of a field is encoded, as its tag says. 3 and 4 begin and end a group, of which no field of pim is one. */
export const WireType = { varint: 0, bit64: 1, delimited: 2, startGroup: 3, endGroup: 4, bit32: 5 } as const;

/** How deep the groups are at most that a later version may use. */
const maxDepth = 100;

const twoTo32 = 2 ** 32;

/** Reads values one after the other. Each method throws an Error if the bytes do not hold what is to be read. */
export class Reader {
  pos = 0;
  readonly len: number;
  /** Of the last tag. */
  wireType = 0;
  readonly #body: Uint8Array;
  #low = 0; // of the last varint, 32 bits
  #high = 0;

  constructor(body: Uint8Array) {
    this.#body = body;
    this.len = body.length;
  }

  /** Reads a tag, and returns the field's number. */
  tag(): number {
    const start = this.pos;
    const tag = this.uint32();
    this.wireType = tag & 7;
    if (this.pos - start > 5 || this.#high > 0 || tag < 8 || this.wireType > 5) {
      throw new Error(`illegal tag ${tag}`);
    }
    return tag >>> 3;
  }

  uint32(): number {
    this.#varint();
    return this.#low >>> 0;
  }

  int32(): number {
    return this.uint32() | 0;
  }

  bool(): boolean {
    return this.uint64() > 0;
  }

  /** Above 2^53 it is about what was encoded. */
  uint64(): number {
    return this.uint32() + (this.#high >>> 0) * twoTo32;
  }

  /** Beyond ±2^53 it is about what was encoded. */
  int64(): number {
    return this.uint32() + (this.#high | 0) * twoTo32;
  }

  /** Returns a part of what is read, not a copy. */
  bytes(): Uint8Array {
    const len = this.uint32();
    const start = this.pos;
    this.#pass(len);
    return this.#body.subarray(start, this.pos);
  }

  /** Passes over the value of the field number, whose tag was read last. */
  skip(number: number, depth = 0): void {
    const { wireType } = this;
    if (wireType === WireType.varint) {
      this.#varint();
    } else if (wireType === WireType.delimited) {
      this.bytes();
    } else if (wireType === WireType.bit32 || wireType === WireType.bit64) {
      this.#pass(wireType === WireType.bit32 ? 4 : 8);
    } else if (wireType === WireType.startGroup && depth < maxDepth) {
      let inner = this.tag();
      for (; this.wireType !== WireType.endGroup; inner = this.tag()) {
        this.skip(inner, depth + 1);
      }
      if (inner !== number) {
        throw new Error(`group ${number} ends as group ${inner}`);
      }
    } else {
      throw new Error(`illegal wire type ${wireType}`);
    }
  }

  #pass(n: number): void {
    this.pos += n;
    if (this.pos > this.len) {
      throw new RangeError("the end is missing");
    }
  }

  #varint(): void {
    this.#low = this.#high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const b = this.#body[this.pos] ?? 0;
      this.#pass(1);
      const bits = b & 127;
      if (shift < 32) {
        this.#low |= bits << shift;
      }
      if (shift > 24) {
        this.#high |= shift < 32 ? bits >>> (32 - shift) : bits << (shift - 32);
      }
      if (b < 128) {
        return;
      }
    }
    throw new Error("a number has more than 10 bytes");
  }
}

const encoder = new TextEncoder();

/** Writes values one after the other. */
export class Writer {
  #body = new Uint8Array(128);
  #pos = 0;

  /** Writes the number and the wire type of a field. */
  tag(number: number, wireType: number): this {
    return this.int(number * 8 + wireType);
  }

  /** Writes an integer from -(2^53 - 1) to 2^53 - 1. */
  int(value: number): this {
    let low = value >>> 0;
    let high = Math.floor(value / twoTo32) >>> 0;
    while (low > 127 || high > 0) {
      this.#room(1);
      this.#body[this.#pos++] = (low & 127) | 128;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.#room(1);
    this.#body[this.#pos++] = low;
    return this;
  }

  string(value: string): void {
    this.bytes(encoder.encode(value));
  }

  /** Writes bytes behind their length. */
  bytes(value: Uint8Array): void {
    this.int(value.length).raw(value);
  }

  raw(value: Uint8Array): void {
    this.#room(value.length);
    this.#body.set(value, this.#pos);
    this.#pos += value.length;
  }

  /** Writes what f writes behind its length. */
  within(f: () => void): void {
    const start = this.#pos;
    f();
    const inner = this.#body.slice(start, this.#pos);
    this.#pos = start;
    this.bytes(inner);
  }

  /** Returns all that was written. */
  finish(): Uint8Array {
    return this.#body.slice(0, this.#pos);
  }

  #room(n: number): void {
    const { length } = this.#body;
    if (this.#pos + n > length) {
      const body = new Uint8Array(Math.max(2 * length, this.#pos + n));
      body.set(this.#body);
      this.#body = body;
    }
  }
}
