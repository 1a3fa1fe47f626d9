import {
  type Conversation,
  type Network,
  newMeta,
  newOutgoing,
  type Meta,
  newSent,
  type Outgoing,
  type SendEvent,
  type Setting,
} from "../engine/types.js";
import { type ConversationID, type Entry, type Fold, type Kind, kinds, PimError } from "../pim/index.js";
import { noBytes } from "../pim/text.js";
import { decodeCommand } from "../wire/command.js";
import { encodeCommand, encodeEntry, encodeFold, parseEntry, parseFold } from "../wire/index.js";

// What stores write: plain objects whose members are texts, numbers, bytes and lists of these. Entries, folds and commands are
// encoded as on the wire, so fields of later versions stay. Whatever is read is checked, as nobody knows what became of a disk:
// a field that is missing has the value of a new row, a field of another type is an error of kind "corrupt".

/** Says that something stored does not hold what it should. */
export function corrupt(what: string, cause?: unknown): PimError {
  const why = cause instanceof Error ? `: ${cause.message}` : "";
  return new PimError("corrupt", `the store's ${what} does not hold what it should${why}`, { cause });
}

/** Returns what read returns. What it throws becomes an error of kind "corrupt". */
function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (err) {
    throw err instanceof PimError && err.text.startsWith("the store's") ? err : corrupt(what, err);
  }
}

/** Returns the fields of template from a stored value. A list of conversations has thousands of them, so nothing is copied twice. */
export function like<T extends object>(what: string, template: T, value: unknown): T {
  if (typeof value !== "object" || value === null) {
    throw corrupt(what);
  }
  const stored = value as Record<string, unknown>;
  const out: Record<string, unknown> = {};
  for (const key in template) {
    const usual: unknown = template[key];
    const one = stored[key] ?? usual;
    if (typeof one !== typeof usual || (typeof one === "object" && sortOf(one) !== sortOf(usual))) {
      throw corrupt(`${what}, ${key},`);
    }
    out[key] = one;
  }
  return out as T;
}

function sortOf(value: unknown): string {
  if (Array.isArray(value)) {
    return value.every((one) => typeof one === "string") ? "texts" : "list";
  }
  return value instanceof Uint8Array ? "bytes" : "object";
}

/** Returns a stored list. */
export function listOf<T>(what: string, value: unknown, read: (one: unknown) => T): T[] {
  if (!Array.isArray(value)) {
    throw corrupt(what);
  }
  return value.map(read);
}

/** Returns stored bytes. */
function bytesOf(what: string, value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) {
    throw corrupt(what);
  }
  return value;
}

export function entryData(e: Entry): Uint8Array {
  return encodeEntry(e);
}

export function readEntry(conversation: ConversationID, data: unknown): Entry {
  return reading(`entry of ${conversation}`, () => parseEntry(conversation, bytesOf("entry", data)));
}

export function foldData(f: Fold): Uint8Array {
  return encodeFold(f);
}

export function readFold(conversation: ConversationID, data: unknown): Fold {
  return reading(`fold of ${conversation}`, () => parseFold(bytesOf("fold", data)));
}

export function readMeta(value: unknown): Meta {
  return value === undefined ? newMeta() : like("meta", newMeta(), value);
}

/** Returns c as a row: last is encoded, and what is nought is left out, as a list reads thousands of these. */
export function conversationRow(c: Conversation): object {
  const { last, mentioned, holes, ...rest } = c;
  const row: Record<string, unknown> = Object.fromEntries(Object.entries(rest).filter(([, value]) => value));
  if (last) {
    row["last"] = encodeEntry(last);
  }
  if (mentioned.named > 0 || mentioned.all > 0) {
    row["mentioned"] = mentioned;
  }
  if (holes.length > 0) {
    row["holes"] = holes;
  }
  return row;
}

const bareConversation = {
  ...{ id: "", known: 0, newest: 0, count: 0, own: 0, ownCount: 0, ownAll: 0, mentioned: {}, last: noBytes },
  ...{ lastCut: false, left: false, folded: 0, stale: 0, front: 0, lost: 0 },
};

export function readConversation(value: unknown): Conversation {
  const { last, mentioned, ...row } = like("conversation", bareConversation, value);
  const { holes } = value as { holes?: unknown };
  return {
    ...row,
    mentioned: like("mentions", { named: 0, all: 0 }, mentioned),
    last: last.length === 0 ? undefined : readEntry(row.id, last),
    holes: listOf("holes", holes ?? [], (one) => like("hole", { from: 0, to: 0, lazy: false }, one)),
  };
}

/** Returns m as a row: of failed, op, kind and text are kept. */
export function outgoingRow(m: Outgoing): object {
  const { failed, ...row } = m;
  return failed ? { ...row, failed: errorRow(failed) } : row;
}

const { failed: _, ...bareOutgoing } = newOutgoing({ id: "", conversation: "", kind: 0 });

export function readOutgoing(value: unknown): Outgoing {
  const row = like("outbox", bareOutgoing, value);
  const { failed } = value as { failed?: unknown };
  return { ...row, failed: failed === undefined ? undefined : readError(failed) };
}

/** Returns what became of a message as a row: of err, op, kind and text are kept. */
export function endedRow(ev: SendEvent): object {
  return ev.err ? { ...ev, err: errorRow(ev.err) } : ev;
}

export function readEnded(value: unknown): SendEvent {
  const bare = { type: "send", id: "", conversation: "", state: "sent", by: "" } as const;
  const { by, ...row } = like<Omit<SendEvent, "sent" | "err">>("end", bare, value);
  const { sent, err } = value as Partial<SendEvent>;
  return {
    ...row,
    ...(by && { by }),
    ...(sent && { sent: like("answer", newSent(""), sent) }),
    ...(err && { err: readError(err) }),
  };
}

function errorRow({ op, kind, text }: PimError): object {
  return { op, kind, text };
}

function readError(value: unknown): PimError {
  const { op, kind, text } = like("error", { op: "", kind: "", text: "" }, value);
  return new PimError(kinds.find((k: Kind) => k === kind) ?? "unknown", text, { op });
}

/** Returns s as a row: the command is encoded. */
export function settingRow(s: Setting): object {
  return { entity: s.entity, at: s.at, deleted: s.deleted, by: s.by, command: encodeCommand(s) };
}

export function readSetting(value: unknown): Setting {
  const row = like("setting", { entity: "", at: 0, deleted: 0, by: "", command: noBytes }, value);
  const { command, ...rest } = row;
  return { ...reading(`setting ${row.entity}`, () => decodeCommand(command)), ...rest };
}

export function readNetworks(value: unknown): Network[] {
  const bare: Network = { name: "", every: 0, stable: false, used: 0 };
  return listOf("networks", value ?? [], (one) => like("network", bare, one));
}
