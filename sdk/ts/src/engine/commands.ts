import {
  checkCommand,
  type Command,
  CommandKind,
  entityOf,
  type Entry,
  EntryKind,
  isKnownCommand,
  makeCommand,
  noSetting,
  own,
  PimError,
  type Seq,
  type Setting,
} from "../pim/index.js";
import { byteLength, compareText } from "../pim/text.js";
import { decodeCommand, encodeCommand } from "../wire/index.js";
import { type ConversationState } from "./conversation.js";
import { type Engine } from "./engine.js";
import { over } from "./foretold.js";
import { type Do } from "./io.js";
import { newMessage } from "./outbox.js";
import { applyRead, readUpTo } from "./reads.js";
import { withPending } from "./settings.js";
import { newOutgoing, type Outgoing } from "./types.js";

// Commands change what the user keeps: contacts, blocks, mutes, pins, read positions. A command is a
// message to the user's own log: the same outbox, resends, deduplication and sync serve it. Their
// result is in settings, the same on every device, since it follows from that log alone
// (applyCommand). The app is shown each setting as it will be, with the commands of this device that
// are still on their way.

const maxSubject = 1 << 10; // bytes of a command's subject: a conversation's or user's ID has far less

/** Takes a command into the outbox. It throws a PimError if the command is refused. */
export function takeCommand(e: Engine, input: Do): void {
  const user = e.fx.user();
  if (e.cfg.watch) {
    throw new PimError("invalid", "with watch the user's own log is not followed");
  }
  if (user === "") {
    throw new PimError("unavailable", "the user is not known before the first connection, unless user names it");
  }
  const log = own(user);
  const entity = entityOf(input.command);
  const about = e.conversations.byID.get(input.command.subject);
  const position = e.conversations.byID.get(log)?.known ?? input.command.known;
  const known = Math.max(position, e.foretold.get(entity)?.at ?? 0); // the user has seen that
  checkCommand({ ...input.command, known });
  const cmd = checkRead(about, { ...input.command, known });
  const out = newOutgoing({
    id: input.id,
    conversation: log,
    kind: EntryKind.command,
    payload: encodeCommand(cmd),
  });
  e.outbox.check(out);
  if (e.settings.full(entity)) {
    throw new PimError("overloaded", `${e.settings.size} contacts, blocks, mutes, pins and read positions are kept`);
  }
  if (coalesce(e, input, cmd)) {
    return;
  }
  e.outbox.queue(newMessage(out));
  showSetting(e, entity);
  if (about !== undefined && cmd.kind === CommandKind.read) {
    readUpTo(e, about);
  }
}

/**
 * Throws a PimError if cmd is a read command of c that cannot be right, as far as this device knows the
 * conversation: read positions only grow, so one beyond the log would hide everything to come. c is
 * undefined if nothing is known of it. It returns cmd, with the counts there if they are known.
 */
export function checkRead(c: ConversationState | undefined, cmd: Command): Command {
  if (cmd.kind !== CommandKind.read) {
    return cmd;
  }
  const what = `read up to seq ${cmd.seq} of ${cmd.subject}`;
  if (c === undefined) {
    throw new PimError("invalid", `${what}, of which this device knows nothing`);
  }
  if (cmd.seq > c.newest) {
    throw new PimError("invalid", `${what}, whose last known seq is ${c.newest}`);
  }
  if (cmd.seq === c.counted) {
    return { ...cmd, count: c.count, named: c.said.named, all: c.said.all };
  }
  if (cmd.count > cmd.seq || (cmd.seq < c.counted && cmd.count > c.count)) {
    throw new PimError("invalid", `${what} and ${cmd.count} messages: so many are not there`);
  }
  return cmd;
}

/**
 * Drops a command that cmd, which input asks for, makes pointless: the last one of the same entity, if
 * that was not transmitted yet. It reports whether cmd itself is pointless, because everything that it
 * marks as read is read.
 */
function coalesce(e: Engine, input: Do, cmd: Command): boolean {
  const log = own(e.fx.user());
  const entity = entityOf(cmd);
  const last = e.outbox.commands(log, entity).at(-1);
  const now = settingOf(e, entity);
  if (cmd.kind === CommandKind.read && cmd.seq <= now.seq) {
    const c = e.conversations.byID.get(cmd.subject);
    if (!isBeyond(c, now.seq)) {
      const by = last && { by: last.out.id };
      e.fx.emit({ type: "send", id: input.id, conversation: log, state: "superseded", ...by });
      return true;
    }
  }
  if (last?.state === "queued") {
    e.outbox.leave(last, { state: "superseded", by: input.id });
  }
  return false;
}

/**
 * Reports whether a read position lies above the newest seq that this device knows of its conversation
 * c. Such a position does not count here; the server decides.
 */
function isBeyond(c: ConversationState | undefined, read: Seq): boolean {
  return c !== undefined && read > c.newest;
}

/** Returns what entity will come to, with the commands in the outbox. */
export function settingOf(e: Engine, entity: string): Setting {
  return withPending(over(e, entity), e.outbox.commands(own(e.fx.user()), entity), e.cfg.device);
}

/** Hands over what entity will come to, unless this version does not know what it is. */
export function showSetting(e: Engine, entity: string): void {
  const setting = settingOf(e, entity);
  if (setting.at === 0 || isKnownCommand(setting.kind)) {
    const pending = e.outbox.commands(own(e.fx.user()), entity).length > 0;
    e.fx.emit({ type: "setting", entity, setting, pending });
  }
}

/** Shows, at the start, the settings that commands of an earlier process will change. */
export function showPending(e: Engine): void {
  const entities = [...e.outbox.lanes.values()].map((l) => l.entity).filter((entity) => entity !== "");
  for (const entity of entities.sort(compareText)) {
    showSetting(e, entity);
  }
}

/**
 * Takes an entry of the user's own log. A command whose kind this version does not know is kept for a
 * later version, by the rules of all kinds but read. The app is not told of it.
 */
export function obey(e: Engine, entry: Entry): void {
  const cmd = entry.kind === EntryKind.command ? readCommand(entry.payload) : undefined;
  if (cmd === undefined || byteLength(cmd.subject) > maxSubject) {
    return;
  }
  const entity = entityOf(cmd);
  if (e.settings.full(entity)) {
    return;
  }
  e.wishes.obeyed(entity, entry.local);
  const setting =
    cmd.kind === CommandKind.read ? applyRead(e, entity, cmd, entry) : e.settings.apply(entity, cmd, entry.seq, entry.device);
  if (setting !== undefined) {
    e.fx.out.store.settings.push({ ...setting, entity });
  }
  showSetting(e, entity);
}

/** Returns the setting of entity that the own log has come to so far. */
export function loggedSetting(e: Engine, entity: string): Setting {
  return e.settings.get(entity) ?? noSetting;
}

/** Returns the command that payload encodes; undefined if it encodes none. */
export function readCommand(payload: Uint8Array): Command | undefined {
  try {
    return decodeCommand(payload);
  } catch (err) {
    if (err instanceof PimError) {
      return undefined;
    }
    throw err;
  }
}

/**
 * Returns the command of a message in the outbox. If the store is damaged, the server will refuse the
 * message, and the app hears of it.
 */
export function commandOf(out: Outgoing): Command {
  return readCommand(out.payload) ?? makeCommand({ subject: out.id });
}
