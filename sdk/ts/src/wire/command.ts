import { checkCommand, type Command, makeCommand } from "../pim/command.js";
import { noBytes } from "../pim/text.js";
import { readMessage, writeMessage } from "./codec.js";

/** Returns the encoding of c, an entry's payload. */
export function encodeCommand(c: Command): Uint8Array {
  return writeMessage("Command", {
    kind: c.kind | 0, // a kind is a uint32, and an enum an int32
    subject: c.subject,
    removed: c.removed,
    value: c.value,
    untilMs: c.until,
    seq: c.seq,
    count: c.count,
    known: c.known,
    replaces: c.replaces,
    shown: c.shown,
    named: c.named,
    allCount: c.all,
    adders: c.adders,
    unknown: c.unknown,
  });
}

/** Reads a command, and validates it. It throws as decodeCommand and checkCommand do. The result shares nothing with payload. */
export function parseCommand(payload: Uint8Array): Command {
  const c = decodeCommand(payload);
  checkCommand(c);
  return c;
}

/**
 * Reads what encodeCommand wrote, and does not validate it. It is for stored commands: it keeps all of a later version's
 * command, which checkCommand may refuse. It throws as readMessage does. The result shares nothing with payload.
 */
export function decodeCommand(payload: Uint8Array): Command {
  const m = readMessage("Command", payload);
  return makeCommand({
    kind: m.kind >>> 0,
    subject: m.subject,
    removed: m.removed,
    value: m.value,
    until: m.untilMs,
    seq: m.seq,
    count: m.count,
    known: m.known,
    replaces: m.replaces,
    shown: m.shown,
    named: m.named,
    all: m.allCount,
    adders: m.adders,
    unknown: m.unknown ?? noBytes,
  });
}
