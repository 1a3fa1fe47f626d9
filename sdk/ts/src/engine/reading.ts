import {
  checkConversationID,
  type ClientMessageID,
  clientMessageIDOf,
  type Command,
  CommandKind,
  type ConversationID,
  entityOf,
  inForce,
  makeCommand,
  PimError,
  type Seq,
} from "../pim/index.js";
import { encodeCommand } from "../wire/index.js";
import { rankOf } from "./catchup.js";
import { checkRead, settingOf, showSetting, takeCommand } from "./commands.js";
import { type ConversationState } from "./conversation.js";
import { type Duration, second } from "./duration.js";
import { type Engine } from "./engine.js";
import { type Reading } from "./io.js";
import { readEntity, readUpTo } from "./reads.js";
import { refusal } from "./refusal.js";
import { hold, release, rewrite } from "./transmit.js";

// What a person reads (Reading), with the app in the foreground, is read as it comes. The read command
// for it is in the outbox, so stored, with the entry itself: without a connection too, and after a
// restart. While it waits there to be transmitted it grows with what comes, under the same ID, and it
// waits for readEvery after the one before. So a busy conversation costs one command a second.

/** How far apart the read commands are that a conversation gives by being read. */
const readEvery = second;

/** A conversation that a person reads. */
export interface BeingRead {
  readonly conversation: ConversationID;
  begun: boolean; // the mark as unread was taken away
  upTo: Seq; // what is up to here was taken care of
  command: ClientMessageID; // the last read command; empty: there was none
  nextAt: Duration; // when the next one may be transmitted
}

/** Takes Reading. It throws a PimError if that is refused. */
export function takeReading(e: Engine, input: Reading): void {
  const { conversation } = input;
  if (e.cfg.watch) {
    throw new PimError("invalid", "with watch nothing is read");
  }
  checkConversationID(conversation);
  const reading = e.readings.find((r) => r.conversation === conversation);
  if (input.on && reading === undefined) {
    e.readings.push({ conversation, begun: false, upTo: 0, command: "", nextAt: 0 });
  } else if (!input.on && reading !== undefined) {
    release(e.outbox, reading.command);
    e.readings = e.readings.filter((r) => r !== reading);
  }
  const c = e.conversations.byID.get(conversation);
  if (c?.pulling) {
    e.pulls.move(c, rankOf(e, c));
  }
}

/** Takes Foreground. */
export function inFront(e: Engine, on: boolean): void {
  e.heart.foreground = on;
  if (!on) {
    // the app may be stopped any moment
    for (const r of e.readings) {
      release(e.outbox, r.command);
      r.begun = false;
    }
  }
}

/** Reports whether a person reads the conversation id. */
export function isRead(e: Engine, id: ConversationID): boolean {
  return e.readings.some((r) => r.conversation === id);
}

/**
 * Reads what has come of the conversations that a person reads. What is only heard of is not read: the
 * person has not seen it.
 */
export function readOn(e: Engine): void {
  if (!e.heart.foreground || e.fx.user() === "") {
    return;
  }
  for (const r of e.readings) {
    if (!r.begun) {
      r.begun = true;
      unmark(e, r.conversation);
    }
    const c = e.conversations.byID.get(r.conversation);
    if (c === undefined || c.doubt !== undefined || c.known < c.counted || c.counted <= r.upTo) {
      continue;
    }
    const s = settingOf(e, readEntity(c.id));
    if (c.count <= Math.max(s.count, c.ownUpTo) || giveRead(e, c, r)) {
      r.upTo = c.counted;
    }
  }
}

/**
 * Gives the read command of r up to the newest entry of c, and reports whether there was room for it.
 */
function giveRead(e: Engine, c: ConversationState, r: BeingRead): boolean {
  // checkRead sets the counts there. It refuses nothing, because c has that entry.
  const command = checkRead(c, makeCommand({ kind: CommandKind.read, subject: c.id, seq: c.counted }));
  const m = e.outbox.byID.get(r.command);
  if (m?.command !== undefined && m.state === "queued" && m.out.local === 0) {
    const grown: Command = { ...command, known: m.command.known };
    rewrite(e.outbox, m, encodeCommand(grown));
    showSetting(e, entityOf(grown));
    readUpTo(e, c);
    return true;
  }
  const id = newID(e);
  if (refusal(() => takeCommand(e, { type: "do", id, command })) !== undefined) {
    return false;
  }
  r.command = id;
  hold(e.outbox, id, r.nextAt);
  r.nextAt = Math.max(r.nextAt, e.fx.now.mono) + readEvery;
  return true;
}

/** Takes the mark as unread of a conversation away, if there is one. */
function unmark(e: Engine, conversation: ConversationID): void {
  const command = makeCommand({ kind: CommandKind.unread, subject: conversation, removed: true });
  if (inForce(settingOf(e, entityOf(command)), 0)) {
    // If there is no room for the command, the mark stays.
    refusal(() => takeCommand(e, { type: "do", id: newID(e), command }));
  }
}

/** Lets what is read of c above the seq to, which is gone, be read again. */
export function readAgain(e: Engine, c: ConversationState, to: Seq): void {
  for (const r of e.readings) {
    if (r.conversation === c.id) {
      r.upTo = Math.min(r.upTo, to);
    }
  }
}

/**
 * Returns an ID for a command of the engine's own: a UUIDv7 of the present, as far as it is known, and
 * of two random numbers, of which each gives 37 bits.
 */
function newID(e: Engine): ClientMessageID {
  const draw = (): bigint => BigInt(Math.trunc(e.cfg.random() * 2 ** 37));
  const a = draw();
  const b = draw();
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setBigUint64(0, (BigInt(e.clock.at(e.fx.now)) << 16n) | 0x7000n | (a >> 25n));
  bytes.setBigUint64(8, (1n << 63n) | ((a & ((1n << 25n) - 1n)) << 37n) | b);
  let id = clientMessageIDOf(new Uint8Array(bytes.buffer));
  while (e.outbox.byID.has(id)) {
    bytes.setUint8(15, bytes.getUint8(15) + 1);
    id = clientMessageIDOf(new Uint8Array(bytes.buffer));
  }
  return id;
}
