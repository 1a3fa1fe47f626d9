import { corrupt } from "../store/rows.js";
import { PimError } from "../pim/index.js";

// A file of frames: a header with the version, then frames, each with what was written together. A frame is
//
//     mark, length of the payload, CRC-32 of the payload, CRC-32 of the three before: 4 bytes each, the lowest first
//     payload
//
// A frame is on the disk before the next is written, so what a crash leaves half written is the last frame. Damage elsewhere is no
// such thing, and is not cut off: what was promised to be there would be lost in silence.

const name = "pim-log";
const version = 1;

/** Begins a file. */
export const fileHeader = Buffer.from(`${name}${String.fromCharCode(version)}`, "latin1");

const mark = 0x6d69709d;
const headBytes = 16;

/** Returns a frame. */
export function frame(payload: Uint8Array): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32LE(mark, 0);
  head.writeUInt32LE(payload.length, 4);
  head.writeUInt32LE(crc32(payload), 8);
  head.writeUInt32LE(crc32(head.subarray(0, 12)), 12);
  return Buffer.concat([head, payload]);
}

/** What a file holds. */
export interface Frames {
  payloads: Buffer[]; // which share the file's bytes
  end: number; // the whole frames end here; 0: not even the header is there
}

/**
 * Returns the frames of a file. It throws a PimError of kind "corrupt" if the file is damaged elsewhere than at its end, or is none
 * of these, and "unsupported" if it is of another version.
 */
export function readFrames(file: Buffer): Frames {
  const begins = file.subarray(0, fileHeader.length);
  if (begins.length < fileHeader.length && fileHeader.subarray(0, begins.length).equals(begins)) {
    return { payloads: [], end: 0 };
  }
  if (begins.toString("latin1", 0, name.length) !== name) {
    throw corrupt("file");
  }
  if (begins[name.length] !== version) {
    const is = `version ${String(begins[name.length])}`;
    throw new PimError("unsupported", `the file is of ${is}, this program knows version ${version}`);
  }
  const payloads: Buffer[] = [];
  let end = fileHeader.length;
  for (let next = frameAt(file, end); next.payload; next = frameAt(file, end)) {
    payloads.push(next.payload);
    end = next.end;
  }
  if (end < file.length && isDamaged(file, end)) {
    throw corrupt(`file, at byte ${end} of ${file.length},`);
  }
  return { payloads, end };
}

/** Reports whether what is no frame at at is something else than a last frame that was not written as a whole. */
function isDamaged(file: Buffer, at: number): boolean {
  const { end } = frameAt(file, at);
  if (end > 0 && end < file.length) {
    return true; // its head is whole, and something follows
  }
  const marked = Buffer.alloc(4);
  marked.writeUInt32LE(mark);
  for (let next = file.indexOf(marked, at + 1); next >= 0; next = file.indexOf(marked, next + 1)) {
    if (frameAt(file, next).payload) {
      return true;
    }
  }
  return false;
}

/** Returns the payload of the frame at at, if it is whole, and where the frame ends, if its head is; else 0. */
function frameAt(file: Buffer, at: number): { payload?: Buffer; end: number } {
  const head = file.subarray(at, at + headBytes);
  if (head.length < headBytes || head.readUInt32LE(0) !== mark || head.readUInt32LE(12) !== crc32(head.subarray(0, 12))) {
    return { end: 0 };
  }
  const end = at + headBytes + head.readUInt32LE(4);
  const payload = file.subarray(at + headBytes, end);
  return end <= file.length && crc32(payload) === head.readUInt32LE(8) ? { payload, end } : { end };
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return crc;
});

/** Returns the CRC-32 of IEEE 802.3. Node 20 has none. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
