import { PimError } from "./errors.js";
import { checkConversationID, checkUserID, type ConversationID, type DeviceID, type UserID } from "./id.js";
import type { Millis, Seq } from "./limits.js";
import { noBytes } from "./text.js";

// A user's own log (own) holds commands. Each changes one entity: a contact, a block, the mute or pin of a conversation, the
// read position in it, or whether others see what the user has read, or when the user is there. The setting of an entity
// follows from the log alone, by applyCommand, so the server and all devices of the user agree on it.

/**
 * What a Command changes, as on the wire. A stored command of a later version's kind is kept and passed on unchanged; this
 * version does not act on it.
 */
export type CommandKind = number;

/** The kinds of commands that this version knows. */
export const CommandKind = {
  /** A contact's name and notes. */
  contact: 1,
  /** The subject cannot send direct messages to the user. */
  block: 2,
  /** No notifications of the conversation. */
  mute: 3,
  /** The conversation stays on top. */
  pin: 4,
  /** How far the user has read the conversation. */
  read: 5,
  /** The user wants to come back to the conversation. */
  unread: 6,
  /** Its subject is the user: hides from all others how far the user has read, and from the user how far others have. */
  noReceipts: 7,
  /** Its subject is the user: hides from all others when the user is connected and writes, and from the user when others are. */
  noPresence: 8,
  /** Its subject is the user: who adds the user to groups without asking. */
  adders: 9,
} as const satisfies Record<string, CommandKind>;

const names = ["contact", "block", "mute", "pin", "read", "unread", "no-receipts", "no-presence", "adders"];

/** Reports whether this version knows the kind. */
export function isKnownCommand(kind: CommandKind): boolean {
  return names[kind - 1] !== undefined;
}

/**
 * Reports whether the kind is a switch by which a user hides something, both ways. The command's subject is the user, and the
 * user has one setting of the kind.
 */
export function hides(kind: CommandKind): boolean {
  return kind === CommandKind.noReceipts || kind === CommandKind.noPresence;
}

/** Returns the kind's stable name, as in JSON; its number if it is of a later version. */
export function commandKindName(kind: CommandKind): string {
  return names[kind - 1] ?? String(kind);
}

/** How many bytes the value of a Command may have. */
export const maxCommandValue = 4 << 10;

/** One change. Its operation ID is the client message ID of its entry. */
export interface Command {
  readonly kind: CommandKind;
  /** A user for contact, block, no-receipts, no-presence and adders, else a conversation. */
  readonly subject: UserID | ConversationID;
  /** The contact is deleted, the block, mute, pin, unread, no-receipts or no-presence taken away. */
  readonly removed: boolean;
  /** Contact: opaque to the server; at most maxCommandValue bytes. */
  readonly value: Uint8Array;
  /** Mute: when it ends; 0: never. */
  readonly until: Millis;
  /** Read: everything up to here has been read. */
  readonly seq: Seq;
  /** Read: the count of the entry at seq; the server writes it. */
  readonly count: number;
  /**
   * Of a read, makes this position take effect whatever its seq: the one in force is beyond the conversation, and so not valid.
   * The server writes it.
   */
  readonly replaces: boolean;
  /**
   * Of a read: others may know of this position from now on: it went on, and no-receipts was not in force. The server writes it;
   * devices make nothing of it.
   */
  readonly shown: boolean;
  /** Of a read, with all: the Mentioned of the user at seq; the server writes both. */
  readonly named: number;
  readonly all: number;
  /** Of adders: who adds the user to groups without asking, 0 whom the user knows, 1 everybody, 2 nobody. */
  readonly adders: number;
  /** The newest seq of the user's own log that the device knew when the command was given. */
  readonly known: Seq;
  /** Fields of a later version, as they were encoded. */
  readonly unknown: Uint8Array;
}

const zero: Command = {
  kind: 0,
  subject: "",
  removed: false,
  value: noBytes,
  until: 0,
  seq: 0,
  count: 0,
  replaces: false,
  shown: false,
  named: 0,
  all: 0,
  adders: 0,
  known: 0,
  unknown: noBytes,
};

/** Returns a command with these fields; all others are empty. */
export function makeCommand(fields: Partial<Command>): Command {
  return { ...zero, ...fields };
}

/**
 * Names what c changes: its kind and subject. A kind after read goes by its number there, so that every version has the same
 * name for what it keeps, also of kinds that it does not know.
 */
export function entityOf(c: Command): string {
  return `${c.kind > CommandKind.read ? c.kind : commandKindName(c.kind)}/${c.subject}`;
}

/**
 * Throws a PimError if something is wrong with c: of kind "invalid", "too_large" or, for a kind of a later version,
 * "unsupported".
 */
export function checkCommand(c: Command): void {
  switch (c.kind) {
    case CommandKind.contact:
    case CommandKind.block:
    case CommandKind.noReceipts:
    case CommandKind.noPresence:
    case CommandKind.adders:
      checkUserID(c.subject);
      break;
    case CommandKind.mute:
    case CommandKind.pin:
    case CommandKind.read:
    case CommandKind.unread:
      checkConversationID(c.subject);
      break;
    default:
      throw new PimError("unsupported", `command of kind ${c.kind}`);
  }
  const read = c.kind === CommandKind.read;
  const name = commandKindName(c.kind);
  if (c.value.length > maxCommandValue) {
    const most = `at most ${maxCommandValue} are allowed`;
    throw new PimError("too_large", `command with a value of ${c.value.length} bytes, ${most}`);
  }
  if (c.value.length > 0 && c.kind !== CommandKind.contact) {
    throw new PimError("invalid", `a ${name} command has no value`);
  }
  if (c.until < 0 || (c.until !== 0 && c.kind !== CommandKind.mute)) {
    throw new PimError("invalid", `a ${name} command that ends at ${c.until} ms`);
  }
  if (c.adders > 2 || (c.adders !== 0 && (c.kind !== CommandKind.adders || c.removed))) {
    throw new PimError("invalid", `a ${name} command that lets ${c.adders} add the user`);
  }
  if (read && (c.seq === 0 || c.removed)) {
    throw new PimError("invalid", "a read command names a seq, and is not taken away");
  }
  if (!read && (c.seq !== 0 || c.count !== 0 || c.named !== 0 || c.all !== 0 || c.replaces || c.shown)) {
    throw new PimError("invalid", `a ${name} command has no seq and no count`);
  }
}

/** The state of an entity: the command in force, and what applyCommand needs to judge later ones. */
export interface Setting extends Command {
  /** Seq of the command in the user's own log; 0: there was no command. */
  readonly at: Seq;
  /** Seq of the last command with removed; 0: none. */
  readonly deleted: Seq;
  /** The device that gave the command at deleted. */
  readonly by: DeviceID;
}

/** The setting of an entity that no command has named. */
export const noSetting: Setting = { ...zero, at: 0, deleted: 0, by: "" };

/**
 * Returns the setting after the entity's next command, the entry at seq at, which was given on device by; s itself if it has
 * not changed. The caller keeps the order of the log; a command that comes again changes nothing. The rules (section 17 of
 * docs/protocol.md):
 *
 *   - A read position takes the maximum, but a command with replaces always takes effect.
 *   - A deletion wins over changes that were made without knowing of it: commands of other devices with a known below deleted.
 *     A device knows its own deletions. This does not hold of no-receipts and no-presence: once they are acknowledged, nobody
 *     sees what they hide.
 *   - Else the last writer, in the order of the log, wins.
 */
export function applyCommand(s: Setting, c: Command, at: Seq, by: DeviceID): Setting {
  if (at <= s.at || (c.kind === CommandKind.read && c.seq <= s.seq && !c.replaces)) {
    return s;
  }
  if (!c.removed && s.deleted > c.known && s.by !== by && !hides(c.kind)) {
    return s;
  }
  return { ...c, at, deleted: c.removed ? at : s.deleted, by: c.removed ? by : s.by };
}

/**
 * Reports whether the entity is in force: the contact exists, the user is blocked, the conversation is muted (at now) or
 * pinned, no receipts are given.
 */
export function inForce(s: Setting, now: Millis): boolean {
  return s.at !== 0 && !s.removed && (s.until === 0 || now < s.until);
}
