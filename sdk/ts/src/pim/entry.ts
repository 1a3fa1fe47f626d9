import { type ClientMessageID, type ConversationID, type DeviceID, noClientMessageID, type UserID } from "./id.js";
import type { Millis, Seq } from "./limits.js";
import type { Mention } from "./mentions.js";
import { noBytes } from "./text.js";

/**
 * What an entry does, as on the wire. A client keeps an entry of a kind that it does not know, and shows or skips it, so
 * kinds can be added: therefore it is a number and not a union.
 */
export type EntryKind = number;

/** The kinds of entries that this version knows. */
export const EntryKind = {
  /** A message; the only kind that counts as unread. */
  message: 1,
  /** The group came into being; members are its first members. */
  create: 2,
  /** Members joined, and read from this entry on. */
  join: 3,
  /** Members left; this entry is the last they read. */
  leave: 4,
  /** In a user's own log: the payload is an encoded Command. */
  command: 5,
  /** The payload takes the place of that of the message at refers, see Fold. */
  edit: 6,
  /** The message at refers is taken back. */
  recall: 7,
  /** The sender reacts with reaction to the message at refers, or takes that back. */
  reaction: 8,
  /** The message at refers is pinned for all, or no longer. */
  pin: 9,
  /** What its sender wrote up to refers is erased, see Erasure. */
  erase: 10,
  /** For how long the entries of the conversation are kept: retain. */
  retain: 11,
} as const satisfies Record<string, EntryKind>;

/** Returns the kind's stable name, as in JSON; "unknown" if it is of a later version. */
export function entryKindName(kind: EntryKind): string {
  return Object.entries(EntryKind).find(([, k]) => k === kind)?.[0] ?? "unknown";
}

/** One position of a conversation's log. It never changes, but its payload may be erased. */
export interface Entry {
  readonly conversation: ConversationID;
  readonly seq: Seq;
  /** The place in the display order, see Place. */
  readonly anchor: Seq;
  /** Counting messages in the log up to and including this entry. */
  readonly count: number;
  readonly kind: EntryKind;
  readonly sender: UserID;
  /** The sender's device. */
  readonly device: DeviceID;
  readonly clientID: ClientMessageID;
  /** The sender's calibrated clock at the first transmission. A sender may say anything. */
  readonly local: Millis;
  /** Server time: the writer's clock plus ahead; it never decreases with seq. */
  readonly server: Millis;
  /** How far server is ahead of the writer's clock: 0 unless that clock was set back. */
  readonly ahead: Millis;
  /** L', if it does not follow from local, server and ahead; else 0; see orderTime. */
  readonly order: Millis;
  /** The users that a create, join or leave names. */
  readonly members: readonly UserID[];
  /** Whom a create or join only invites, or whose invitation a leave ends; none of them is among members. */
  readonly invited: readonly UserID[];
  /** Opaque to the server (invariant I9); at most maxPayload bytes. */
  readonly payload: Uint8Array;
  /** The message that an edit, recall, reaction or pin is about, see Fold; the last seq of an erase. */
  readonly refers: Seq;
  /** The users that a message names, each once; at most maxMentions. */
  readonly mentions: readonly Mention[];
  /** A message to everybody. */
  readonly mentionAll: boolean;
  /** Messages in the log up to and including this entry that mention all. */
  readonly allCount: number;
  /** Of a reaction: at most maxReaction bytes. */
  readonly reaction: string;
  /** Of a reaction or pin: it is taken back. */
  readonly removed: boolean;
  /** The payload was erased. */
  readonly erased: boolean;
  /** Of a retain: at least dedupWindow; 0: for as long as the server says. */
  readonly retain: Millis;
  /** Fields of a later version, as they were encoded. */
  readonly unknown: Uint8Array;
}

/** An entry of which nothing is set. */
const zero: Entry = {
  conversation: "",
  seq: 0,
  anchor: 0,
  count: 0,
  kind: 0,
  sender: "",
  device: "",
  clientID: noClientMessageID,
  local: 0,
  server: 0,
  ahead: 0,
  order: 0,
  members: [],
  invited: [],
  payload: noBytes,
  refers: 0,
  mentions: [],
  mentionAll: false,
  allCount: 0,
  reaction: "",
  removed: false,
  erased: false,
  retain: 0,
  unknown: noBytes,
};

/** Returns an entry with these fields; all others are empty: 0, "", false, or a client message ID of zeros. */
export function makeEntry(fields: Partial<Entry>): Entry {
  return { ...zero, ...fields };
}
