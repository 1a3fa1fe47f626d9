import { type Command, CommandKind, entityOf, inForce, makeCommand, own, type Seq, type Setting } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { commandOf, loggedSetting, settingOf, showSetting } from "./commands.js";
import { newestSeq } from "./conversation.js";
import { type Engine } from "./engine.js";
import { type Summary } from "./frames.js";
import { type OutMessage } from "./outbox.js";

// The sync list says how far the user has read each conversation, and whether the user has marked it
// as unread. Both are settings of the user's own log, which this device may still have to pull. Until
// it has, the list's word counts for what the app is shown and what the user's commands know. So does
// a command of this device that is acknowledged ahead of others in the log. Neither is stored.

/** A setting that is known ahead of the own log. */
export interface Foretold {
  command: Command;
  at: Seq;
}

/** Returns the setting of entity, with what was foretold of it, and without commands in the outbox. */
export function over(e: Engine, entity: string): Setting {
  const s = loggedSetting(e, entity);
  const told = e.foretold.get(entity);
  if (told !== undefined && told.at > s.at && (told.command.kind !== CommandKind.read || told.command.seq > s.seq)) {
    return { ...s, ...told.command, at: told.at };
  }
  return s;
}

/**
 * Takes what a Summary says of the settings of its conversation, if the own log has more than this
 * device knows of it.
 */
export function foretell(e: Engine, s: Summary): void {
  const known = e.conversations.byID.get(own(e.fx.meta.user))?.known ?? 0;
  const subject = s.conversation;
  const readAt = newestSeq(s.readAt);
  if (readAt > known && s.read !== 0 && s.read <= s.newest) {
    const read = {
      seq: newestSeq(s.read),
      count: Math.min(s.readCount, s.count),
      named: Math.min(s.readNamed, s.named),
      all: Math.min(s.readAll, s.allCount),
    };
    foretellOne(e, readAt, makeCommand({ kind: CommandKind.read, subject, ...read }));
  }
  const markedAt = newestSeq(s.markedAt);
  if (markedAt > known) {
    foretellOne(e, markedAt, makeCommand({ kind: CommandKind.unread, subject, removed: !s.marked }));
  }
}

function foretellOne(e: Engine, at: Seq, command: Command): void {
  const entity = entityOf(command);
  if (!e.settings.full(entity)) {
    const was = settingOf(e, entity);
    e.foretold.set(entity, { command, at });
    showChanged(e, entity, was);
  }
}

/**
 * Foretells a command of this device, m, that has left the outbox for the seq at, of which the own log
 * lacks entries before it. The app was shown the command already.
 */
export function foretellOwn(e: Engine, at: Seq, m: OutMessage): void {
  const command = commandOf(m.out);
  const entity = entityOf(command);
  const now = over(e, entity);
  if (!e.settings.full(entity) && now.at < at && (command.kind !== CommandKind.read || now.seq < command.seq)) {
    e.foretold.set(entity, { command, at });
  }
}

/** Shows the setting of entity if what people see of it is not as in was. */
function showChanged(e: Engine, entity: string, was: Setting): void {
  const now = settingOf(e, entity);
  if (now.seq !== was.seq || inForce(now, 0) !== inForce(was, 0)) {
    showSetting(e, entity);
  }
}

/** Forgets what was foretold of the own log: the server does not have it. */
export function unforetell(e: Engine): void {
  for (const told of e.foretold.values()) {
    told.at = 0;
  }
  caughtUp(e);
}

/**
 * Forgets what was foretold of the own log up to this device's position, which has moved.
 */
export function caughtUp(e: Engine): void {
  const c = e.conversations.byID.get(own(e.fx.meta.user));
  if (c === undefined) {
    return;
  }
  const past = [...e.foretold].filter(([, told]) => told.at <= c.known).map(([entity]) => entity);
  for (const entity of past.sort(compareText)) {
    const was = settingOf(e, entity);
    e.foretold.delete(entity);
    if (settingOf(e, entity).at !== was.at) {
      // the log has come to something else
      showSetting(e, entity);
    }
  }
}
