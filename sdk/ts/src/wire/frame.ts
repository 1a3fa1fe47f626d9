import { PimError } from "../pim/errors.js";
import { maxFrame } from "../pim/limits.js";
import { type Init, type MessageName, type Plain, readMessage, writeMessage } from "./codec.js";
import type { Messages } from "./pb/pim_fields.js";

/** The protocol version of this package. */
export const version = 1;

/** Where a server upgrades to WebSocket. */
export const webSocketPath = "/v1/ws";

/** The number of every frame type of v1, which is a frame's first byte. They are never used again for something else. */
export const frameNumbers = {
  Hello: 1,
  Welcome: 2,
  PIMSendReq: 3,
  PIMSendAck: 4,
  PIMPush: 5,
  PIMPushAck: 6,
  PIMSyncReq: 7,
  PIMSyncResp: 8,
  PIMPullReq: 9,
  PIMPullResp: 10,
  PIMTimeReq: 11,
  PIMTimeResp: 12,
  PIMPing: 13,
  PIMPong: 14,
  PIMGoAway: 15,
  PIMError: 16,
  PIMReceiptReq: 17,
  PIMReceiptResp: 18,
  PIMLook: 19,
  PIMReceipt: 20,
  PIMTyping: 21,
  PIMPresence: 22,
  PIMMembersReq: 23,
  PIMMembersResp: 24,
} as const satisfies { readonly [N in MessageName]?: number };

/** A frame's name in docs/protocol.md. */
export type FrameName = keyof typeof frameNumbers;

/** The bodies of the frames, by their names. */
export type Bodies = { [N in FrameName]: Plain<Messages[N]> };

/** A frame: its name, which is its type, and its body. */
export type Frame = { [N in FrameName]: { readonly type: N; readonly body: Bodies[N] } }[FrameName];

/** A frame to be encoded: what its body leaves out has its default. */
export type FrameInit = { [N in FrameName]: { readonly type: N; readonly body: Init<Messages[N]> } }[FrameName];

const names = new Map<number, FrameName>();
for (const name of Object.keys(frameNumbers) as FrameName[]) {
  names.set(frameNumbers[name], name);
}

/** Returns the frame's bytes: its type and its body. It throws as writeMessage does. */
export function encode(frame: FrameInit): Uint8Array {
  const body = writeMessage<FrameName>(frame.type, frame.body);
  const bytes = new Uint8Array(1 + body.length);
  bytes[0] = frameNumbers[frame.type];
  bytes.set(body, 1);
  return bytes;
}

/**
 * Reads one frame. The body shares nothing with bytes. A frame of a type that this version does not know gives undefined: skip
 * it. It throws a PimError of kind "too_large" if the frame has more than maxFrame bytes, and of kind "invalid" if it cannot
 * be read, as readMessage says.
 */
export function decode(bytes: Uint8Array): Frame | undefined {
  const [number] = bytes;
  if (number === undefined) {
    throw new PimError("invalid", "an empty frame has no type");
  }
  if (bytes.length > maxFrame) {
    throw new PimError("too_large", `a frame of ${bytes.length} bytes, at most ${maxFrame} are allowed`);
  }
  const type = names.get(number);
  return type && ({ type, body: readMessage(type, bytes.subarray(1)) } as Frame);
}

/** The number of bytes before each frame over TCP. */
export const tcpHeader = 4;

/** Returns frame behind the length that precedes it over TCP. */
export function frameTCP(frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(tcpHeader + frame.length);
  new DataView(bytes.buffer).setUint32(0, frame.length);
  bytes.set(frame, tcpHeader);
  return bytes;
}

/** What cutTCP found. */
export interface Cut {
  /** The first frame, a part of what was cut; undefined if it has not come as a whole. */
  readonly frame?: Uint8Array;
  /** What follows the frame, or all if there is none; a part of what was cut. */
  readonly rest: Uint8Array;
  /** How many bytes there must be for the next try; 0 if there is a frame. */
  readonly need: number;
}

/**
 * Cuts the first frame off buf, which holds what came over a TCP connection. It throws a PimError if the frame's length is 0
 * ("invalid") or above limit ("too_large"): the connection cannot be read any further.
 */
export function cutTCP(buf: Uint8Array, limit: number): Cut {
  if (buf.length < tcpHeader) {
    return { rest: buf, need: tcpHeader };
  }
  const length = new DataView(buf.buffer, buf.byteOffset, buf.byteLength).getUint32(0);
  if (length === 0) {
    throw new PimError("invalid", "an empty frame has no type");
  }
  if (length > limit) {
    throw new PimError("too_large", `a frame of ${length} bytes, at most ${limit} are allowed`);
  }
  const need = tcpHeader + length;
  if (buf.length < need) {
    return { rest: buf, need };
  }
  return { frame: buf.subarray(tcpHeader, need), rest: buf.subarray(need), need: 0 };
}
