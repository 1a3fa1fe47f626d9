import { type Entry, makeEntry } from "../pim/entry.js";
import { PimError } from "../pim/errors.js";
import { clientMessageIDBytes, clientMessageIDOf, type ConversationID } from "../pim/id.js";
import { noBytes } from "../pim/text.js";
import { type Plain, readMessage, writeMessage } from "./codec.js";
import type { Messages } from "./pb/pim_fields.js";

/** An entry as a frame has it: without its conversation. */
export type EntryBody = Plain<Messages["Entry"]>;

/** Returns the encoding of e, without its conversation: the bytes that a server stores and sends. */
export function encodeEntry(e: Entry): Uint8Array {
  return writeMessage("Entry", {
    seq: e.seq,
    anchor: e.anchor === e.seq ? 0 : e.anchor, // the usual case, left out
    count: e.count,
    kind: e.kind | 0, // a kind is a uint32, and an enum an int32
    sender: e.sender,
    device: e.device,
    clientMessageId: clientMessageIDBytes(e.clientID),
    localMs: e.local,
    serverMs: e.server,
    members: e.members,
    invited: e.invited,
    payload: e.payload,
    aheadMs: e.ahead,
    orderMs: e.order,
    refers: e.refers,
    mentions: e.mentions,
    mentionAll: e.mentionAll,
    reaction: e.reaction,
    removed: e.removed,
    erased: e.erased,
    allCount: e.allCount,
    retainMs: e.retain,
    unknown: e.unknown,
  });
}

/**
 * Reads what encodeEntry wrote, an entry of conversation c. It throws a PimError of kind "corrupt" if the bytes cannot be read,
 * and what entryOf throws. The result shares nothing with bytes.
 */
export function parseEntry(c: ConversationID, bytes: Uint8Array): Entry {
  let body: EntryBody;
  try {
    body = readMessage("Entry", bytes);
  } catch (err) {
    throw new PimError("corrupt", `entry of ${c}: ${err instanceof Error ? err.message : String(err)}`, { cause: err });
  }
  return entryOf(c, body);
}

/**
 * Returns m as an entry of conversation c, which takes over m's payload and lists. It throws a PimError of kind "invalid" if m
 * has no seq, or no client message ID of 16 bytes.
 */
export function entryOf(c: ConversationID, m: EntryBody): Entry {
  if (m.seq === 0 || m.clientMessageId.length !== 16) {
    const id = `client message ID of ${m.clientMessageId.length} bytes`;
    throw new PimError("invalid", `entry of ${c}: seq ${m.seq}, ${id}`);
  }
  return makeEntry({
    conversation: c,
    seq: m.seq,
    anchor: m.anchor === 0 ? m.seq : m.anchor,
    count: m.count,
    kind: m.kind >>> 0,
    sender: m.sender,
    device: m.device,
    clientID: clientMessageIDOf(m.clientMessageId),
    local: m.localMs,
    server: m.serverMs,
    ahead: m.aheadMs,
    order: m.orderMs,
    members: m.members,
    invited: m.invited,
    payload: m.payload,
    refers: m.refers,
    mentions: m.mentions.map(({ user, count }) => ({ user, count })),
    mentionAll: m.mentionAll,
    allCount: m.allCount,
    reaction: m.reaction,
    removed: m.removed,
    erased: m.erased,
    retain: m.retainMs,
    unknown: m.unknown ?? noBytes,
  });
}
