import { checkBytes, checkString } from "./arguments.js";
import { PimError } from "./errors.js";
import { maxIDBytes, type Millis } from "./limits.js";
import { sha256 } from "./sha256.js";
import { byteLength, compareText, isWellFormed, utf8 } from "./text.js";

/**
 * Names a user. The app that embeds pim gives it out: 1–64 bytes of UTF-8 without control characters, whitespace, '/' or
 * ':'. The server accepts a new user only if RFC 8265 allows the name as well.
 */
export type UserID = string;

/** Names one device of a user, in the same characters as a UserID. */
export type DeviceID = string;

/**
 * Names a conversation: "d:A:B" for the direct conversation of users A ≤ B in the order of their bytes, "g:" and a name
 * given out by the server for a group, "u:A" for user A's own log, which holds their commands.
 */
export type ConversationID = string;

/**
 * Identifies a message from its creation on: a UUIDv7, made by the sending device and kept over every resend. It is in the
 * usual form of a UUID, in lower case, so that equal IDs are equal strings; on the wire it has 16 bytes.
 */
export type ClientMessageID = string;

/** The client message ID whose bytes are all 0: it is unset. */
export const noClientMessageID: ClientMessageID = "00000000-0000-0000-0000-000000000000";

/** Throws a PimError of kind "invalid" if u is not a user ID. */
export function checkUserID(u: UserID): void {
  checkID("user ID", u);
}

/** Throws a PimError of kind "invalid" if d is not a device ID. */
export function checkDeviceID(d: DeviceID): void {
  checkID("device ID", d);
}

function checkID(what: string, s: string): void {
  checkString(what, s);
  if (s === "") {
    throw new PimError("invalid", `${what} is empty`);
  }
  const bytes = byteLength(s);
  if (bytes > maxIDBytes) {
    throw new PimError("invalid", `${what} has ${bytes} bytes, at most ${maxIDBytes} are allowed`);
  }
  if (!isWellFormed(s)) {
    throw new PimError("invalid", `${what} is not valid Unicode`);
  }
  const bad = /[\p{Cc}\p{White_Space}/:]/u.exec(s);
  if (bad) {
    const said = `${what} ${JSON.stringify(s)} holds ${JSON.stringify(bad[0])}`;
    throw new PimError("invalid", `${said}; control characters, whitespace, '/' and ':' are not allowed`);
  }
}

/**
 * Returns the conversation of a and b. Its ID follows from the two users, whichever is named first; if they are the same,
 * it is a user's conversation with themselves.
 */
export function direct(a: UserID, b: UserID): ConversationID {
  return compareText(b, a) < 0 ? `d:${b}:${a}` : `d:${a}:${b}`;
}

/** Returns u's own log, which holds u's commands. Nobody else reads or writes it. */
export function own(u: UserID): ConversationID {
  return `u:${u}`;
}

/** Returns the user whose own log c is; undefined if c is no own log. */
export function ownUser(c: ConversationID): UserID | undefined {
  return c.startsWith("u:") ? c.slice(2) : undefined;
}

/**
 * Returns the ID of the group that sender creates with the client message ID id. The group's ID follows from the request, so
 * a resent request names the same group and creates it once.
 */
export function newGroup(sender: UserID, id: ClientMessageID): ConversationID {
  return `g:${base32(sha256(Uint8Array.of(...utf8(sender), 0, ...clientMessageIDBytes(id))).subarray(0, 15))}`;
}

/** Returns bytes in base 32, in lower case. Their number is a multiple of 5, so nothing is padded. */
function base32(bytes: Uint8Array): string {
  let name = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    for (held += 8; held >= 5; held -= 5) {
      name += "abcdefghijklmnopqrstuvwxyz234567".charAt((bits >> (held - 5)) & 31);
    }
    bits &= (1 << held) - 1;
  }
  return name;
}

/** Reports whether c names a group. */
export function isGroup(c: ConversationID): boolean {
  return c.startsWith("g:");
}

/** Returns the two users of a direct conversation, in the order of its ID; undefined if c does not name one. */
export function directUsers(c: ConversationID): readonly [UserID, UserID] | undefined {
  const colon = c.indexOf(":", 2);
  return c.startsWith("d:") && colon >= 0 ? [c.slice(2, colon), c.slice(colon + 1)] : undefined;
}

/**
 * Reports whether the ID c alone shows that u is not a member. The ID of a direct conversation or of an own log names its
 * users, and an ID of no known form has no members. A group's ID excludes nobody. It does not replace
 * checkConversationID.
 */
export function excludes(c: ConversationID, u: UserID): boolean {
  const users = directUsers(c);
  if (users) {
    return !users.includes(u);
  }
  const owner = ownUser(c);
  return owner === undefined ? !isGroup(c) : owner !== u;
}

/** Throws a PimError of kind "invalid" if c is not a conversation ID. */
export function checkConversationID(c: ConversationID): void {
  checkString("conversation ID", c);
  const users = directUsers(c);
  const owner = ownUser(c);
  if (users) {
    const [a, b] = users;
    checkUserID(a);
    checkUserID(b);
    if (compareText(b, a) < 0) {
      throw new PimError("invalid", `conversation ID ${JSON.stringify(c)}: its users are not in byte order`);
    }
  } else if (isGroup(c)) {
    checkID("group name", c.slice(2));
  } else if (owner !== undefined) {
    checkUserID(owner);
  } else {
    const forms = "d:USER:USER, g:NAME and u:USER";
    throw new PimError("invalid", `conversation ID ${JSON.stringify(c)} has none of the forms ${forms}`);
  }
}

/**
 * Returns a fresh UUIDv7 for the time now. Its 74 random bits are WebCrypto's, which every browser and Node 20 has, also on
 * pages that were not loaded by HTTPS.
 */
export function newClientMessageID(now: Millis = Date.now()): ClientMessageID {
  const id = new Uint8Array(16);
  crypto.getRandomValues(id);
  const view = new DataView(id.buffer);
  view.setUint16(0, Math.floor(now / 2 ** 32));
  view.setUint32(2, now % 2 ** 32);
  view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
  view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
  return clientMessageIDOf(id);
}

/** Returns the client message ID with these bytes. It throws a PimError of kind "invalid" if they are not 16. */
export function clientMessageIDOf(bytes: Uint8Array): ClientMessageID {
  if (checkBytes("client message ID", bytes).length !== 16) {
    throw new PimError("invalid", `a client message ID of ${bytes.length} bytes`);
  }
  // Every entry has an ID. This makes one flat text: one that grows by += is kept as a tree of its parts, ten times as large.
  let at = 0;
  for (const byte of bytes) {
    at += written[at] === hyphen ? 1 : 0;
    written[at++] = digits[byte >> 4] ?? 0;
    written[at++] = digits[byte & 15] ?? 0;
  }
  return String.fromCharCode(...written);
}

const codesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const digits = codesOf("0123456789abcdef");
const written = codesOf("00000000-0000-0000-0000-000000000000"); // the ID that was asked for last
const [hyphen] = codesOf("-");

/** Returns the 16 bytes of id. It throws a PimError of kind "invalid" if id is not a UUID. */
export function clientMessageIDBytes(id: ClientMessageID): Uint8Array {
  const hex = checkString("client message ID", id).replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/i.test(hex)) {
    throw new PimError("invalid", `client message ID ${JSON.stringify(id)} is not a UUID`);
  }
  return Uint8Array.from({ length: 16 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

/** Returns s, a UUID in any case and with or without hyphens, as a ClientMessageID. It throws as clientMessageIDBytes does. */
export function parseClientMessageID(s: string): ClientMessageID {
  return clientMessageIDOf(clientMessageIDBytes(s));
}
