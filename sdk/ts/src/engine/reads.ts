import {
  type Command,
  CommandKind,
  type ConversationID,
  entityOf,
  type Entry,
  EntryKind,
  makeCommand,
  type Seq,
  type Setting,
} from "../pim/index.js";
import { settingOf } from "./commands.js";
import { type ConversationState } from "./conversation.js";
import { type Engine } from "./engine.js";

// How far the user has read a conversation is the higher of two: the read position, and the newest
// entry that makes all before it read (Effects.reads). Both may move because of another device of the
// user, as the user's own log, an own message or the sync list tell. Then the app is told once
// (ReadEvent). ConversationState.readTo is how far the user had read when this was last looked at.
// Whoever changes one of the two looks before the change and after it.

/** Returns the entity of the read position in a conversation. */
export function readEntity(conversation: ConversationID): string {
  return entityOf(makeCommand({ kind: CommandKind.read, subject: conversation }));
}

/**
 * Returns the seq up to which the user has read c, commands in the outbox included. It does not go
 * back, unless c was taken back or a read command replaces what was not valid.
 */
export function readUpTo(e: Engine, c: ConversationState): Seq {
  c.readTo = Math.max(c.readTo, c.own, settingOf(e, readEntity(c.id)).seq);
  return c.readTo;
}

/**
 * Tells the app if the user has read more of c than at the last call of readUpTo, unless silent: then
 * this device has moved it, or c is new to this device, so that there is nothing to take away.
 */
export function readMoved(e: Engine, c: ConversationState, silent: boolean): void {
  const was = c.readTo;
  const now = readUpTo(e, c);
  if (now > was && !silent) {
    e.fx.emit({ type: "read", conversation: c.id, seq: now });
  }
}

/**
 * Takes note of what an entry of c mentions, and of the entry itself if it makes everything before it
 * read. c is to hear of the entry after that.
 */
export function readBy(e: Engine, c: ConversationState, entry: Entry): void {
  e.fx.mentions(c, entry);
  if (entry.seq <= c.own || !e.fx.makesRead(entry)) {
    return;
  }
  readUpTo(e, c);
  e.fx.reads(c, entry);
  const here = entry.sender === e.fx.user() && entry.device === e.fx.meta.device;
  readMoved(e, c, here || c.newest === 0);
}

/**
 * Tells the app if the sync list has moved how far the user has read c. What moved may be a message of
 * this device whose answer is still to come, unless the user has left the group. Nothing else in that
 * lane moves it.
 */
export function readInList(e: Engine, c: ConversationState, isNew: boolean): void {
  const mine = e.outbox.messagesTo(c.id).some((m) => m.out.kind === EntryKind.message && m.out.local !== 0);
  readMoved(e, c, isNew || (!c.left && mine));
}

/**
 * Applies a read command, which is the entry of the own log. It tells the app, but not of a
 * conversation that is new to this device. It returns the setting if that has changed.
 */
export function applyRead(e: Engine, entity: string, cmd: Command, entry: Entry): Setting | undefined {
  const c = e.conversations.byID.get(cmd.subject);
  if (c === undefined) {
    return e.settings.apply(entity, cmd, entry.seq, entry.device);
  }
  readUpTo(e, c);
  const changed = e.settings.apply(entity, cmd, entry.seq, entry.device);
  if (changed !== undefined && cmd.replaces) {
    c.readTo = 0;
  }
  readMoved(e, c, c.newest === 0 || cmd.replaces); // what this device has said counts already
  return changed;
}
