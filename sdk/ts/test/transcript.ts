// Replays transcripts of the engine: client/testdata/transcripts/README.md says what they are.
import assert from "node:assert/strict";
import { fromBinary, fromJson, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Message } from "@bufbuild/protobuf";
import { type Duration, millisecond } from "../src/engine/duration.js";
import { type Config, Engine } from "../src/engine/engine.js";
import type { Input, Output } from "../src/engine/io.js";
import * as types from "../src/engine/types.js";
import {
  type Command,
  type Entry,
  kinds,
  makeCommand,
  makeEntry,
  noClientMessageID,
  noSetting,
  PimError,
} from "../src/pim/index.js";
import { decode, encode, type Frame, type FrameInit, type FrameName, frameNumbers } from "../src/wire/index.js";
import * as pb from "../src/wire/pb/pim_pb.js";

/** What JSON.parse gives. */
type Json = null | boolean | number | string | Json[] | Fields;
interface Fields {
  [name: string]: Json | undefined;
}

export interface Transcript {
  name: string;
  device: string;
  processes: Process[];
}

interface Process {
  config: Fields;
  snapshot: Fields | null;
  random?: number[];
  steps: Turn[];
}

interface Turn {
  at: number;
  wall: number;
  in: Fields;
  out?: Fields;
  wake?: number;
  error?: string;
}

/** Feeds a transcript to engines. It throws at the first difference. */
export function replay(t: Transcript): void {
  t.processes.forEach((p, i) => replayProcess(p, `${t.name}, ${t.device}, process ${i + 1}`));
}

function replayProcess(p: Process, where: string): void {
  const numbers = p.random ?? [];
  let drawn = 0;
  const random = (): number => {
    const x = numbers[drawn];
    drawn++;
    return x ?? 0;
  };
  const engine = new Engine(readConfig(p.config, random), readSnapshot(p.snapshot ?? {}));
  p.steps.forEach((turn, i) => {
    const [name = ""] = Object.keys(turn.in);
    const refused = engine.step({ mono: duration(turn.at), wall: turn.wall }, readInput(name, fieldsOf(turn.in[name])));
    const out = writeOutput(engine.take());
    const wake = engine.deadline();
    const got = { out, wake: wake === undefined ? 0 : wake / millisecond, refused: refused !== undefined };
    const want = { out: normal(turn.out ?? {}), wake: turn.wake ?? 0, refused: turn.error !== undefined };
    assert.deepStrictEqual(got, want, `${where}, step ${i + 1}, ${name}`);
    assert.ok(drawn <= numbers.length, `${where}, step ${i + 1}: it asks for more random numbers than there are`);
  });
  assert.equal(drawn, numbers.length, `${where}: some random numbers were not asked for`);
}

// What is read.

function duration(ms: Json | undefined): Duration {
  return Math.round(Number(ms ?? 0) * millisecond);
}

function fieldsOf(x: Json | undefined): Fields {
  assert.ok(x === null || x === undefined || (typeof x === "object" && !Array.isArray(x)));
  return x ?? {};
}

function listOf<T>(x: Json | undefined, read: (fields: Fields) => T): T[] {
  assert.ok(x === null || x === undefined || Array.isArray(x));
  return (x ?? []).map((item) => read(fieldsOf(item)));
}

function textsOf(x: Json | undefined): string[] {
  assert.ok(x === null || x === undefined || Array.isArray(x));
  return (x ?? []).map(String);
}

/**
 * Returns zero with the fields that are in x: texts, numbers, truth values and bytes. Others stay as they are.
 */
function fill<T extends object>(zero: T, x: Fields): T {
  const filled: Partial<Record<string, unknown>> = Object.fromEntries(Object.entries(zero));
  for (const [name, value] of Object.entries(zero)) {
    const said = x[snake(name)];
    if (said === undefined || said === null) {
      continue;
    }
    if (value instanceof Uint8Array) {
      filled[name] = bytesOf(said);
    } else if (typeof value === typeof said && typeof value !== "object") {
      filled[name] = said;
    }
  }
  return filled as T;
}

function bytesOf(x: Json): Uint8Array {
  if (Array.isArray(x)) {
    return Uint8Array.from(x, Number);
  }
  const text = String(x);
  return new Uint8Array(text.startsWith("base64:") ? Buffer.from(text.slice("base64:".length), "base64") : Buffer.from(text));
}

function readError(x: Json | undefined): PimError | undefined {
  if (x === null || x === undefined) {
    return undefined;
  }
  const { kind, text, op, retry_after } = fieldsOf(x);
  return new PimError(kinds[Number(kind ?? 0)] ?? "unknown", String(text ?? ""), {
    op: String(op ?? ""),
    retryAfter: Number(retry_after ?? 0),
  });
}

/** Returns why a connection was lost: a text, or a PimError that names a time. */
function readLoss(x: Json | undefined): Error {
  return typeof x === "object" && x !== null ? (readError(x) ?? new Error()) : new Error(String(x ?? ""));
}

function readEntry(x: Fields): Entry {
  const mentions = listOf(x["mentions"], (m) => fill({ user: "", count: 0 }, m));
  return { ...fill(makeEntry({}), x), members: textsOf(x["members"]), mentions };
}

function readOutgoing(x: Fields): types.Outgoing {
  const zero = types.newOutgoing({ id: noClientMessageID, conversation: "", kind: 0 });
  const lists = { members: textsOf(x["members"]), mentions: textsOf(x["mentions"]) };
  return { ...fill(zero, x), ...lists, failed: readError(x["failed"]) };
}

function readCommand(x: Fields): Command {
  return fill(makeCommand({}), x);
}

function readConversation(x: Fields): types.Conversation {
  const zero = { id: "", known: 0, newest: 0, count: 0, own: 0, ownCount: 0, ownAll: 0, lastCut: false, left: false };
  return {
    ...fill({ ...zero, folded: 0, stale: 0, front: 0, lost: 0 }, x),
    mentioned: fill({ named: 0, all: 0 }, x),
    last: undefined,
    holes: listOf(x["holes"], (h) => fill({ from: 0, to: 0, lazy: false }, h)),
  };
}

function readNetwork(x: Fields): types.Network {
  return { ...fill({ name: "", every: 0, stable: false, used: 0 }, x), every: duration(x["every"]) };
}

function readSnapshot(x: Fields): types.Snapshot {
  return {
    meta: fill(types.newMeta(), fieldsOf(x["meta"])),
    conversations: listOf(x["conversations"], readConversation),
    outbox: listOf(x["outbox"], readOutgoing),
    settings: listOf(x["settings"], (s) => fill({ ...noSetting, entity: "" }, s)),
    networks: listOf(x["networks"], readNetwork),
    erasures: listOf(x["erasures"], (e) => fill({ conversation: "", by: "", upTo: 0 }, e)),
    former: textsOf(x["former"]),
  };
}

function readConfig(x: Fields, random: () => number): Config {
  const zero = { user: "", device: "", agent: "", watch: false, peek: false, confirms: false, page: 0, lazyGap: 0 };
  return {
    ...fill(zero, x),
    servers: textsOf(x["servers"]),
    backoffMin: duration(x["backoff_min"]),
    backoffMax: duration(x["backoff_max"]),
    requestTimeout: duration(x["request_timeout"]),
    random,
  };
}

const schemas = new Map<string, GenMessage<Message>>(
  Object.entries(pb).flatMap(([name, schema]) =>
    name.endsWith("Schema") ? [[name.slice(0, -"Schema".length), schema as GenMessage<Message>] as const] : [],
  ),
);

function schemaOf(name: string): GenMessage<Message> {
  const schema = schemas.get(name);
  assert.ok(schema, name);
  return schema;
}

/** Returns the frame as it would come from the network. */
function readFrame(x: Json | undefined): Frame | undefined {
  const [name] = Object.keys(fieldsOf(x));
  if (name === undefined) {
    return undefined;
  }
  const schema = schemaOf(name);
  const body = toBinary(schema, fromJson(schema, fieldsOf(x)[name] as JsonValue));
  return decode(Uint8Array.of(frameNumbers[name as FrameName], ...body));
}

function readInput(name: string, x: Fields): Input {
  const conversation = String(x["conversation"] ?? "");
  const attempt = Number(x["attempt"] ?? 0);
  const id = Number(x["id"] ?? 0);
  const on = x["on"] === true;
  switch (name) {
    case "start":
    case "reconnect":
    case "tick":
    case "close":
      return { type: name };
    case "dialled":
      return { type: "dialled", attempt, token: String(x["token"] ?? "") };
    case "no_token":
      return { type: "noToken", attempt, err: readError(x["err"]) ?? new PimError("unknown", "") };
    case "lost":
      return { type: "lost", attempt, err: readLoss(x["err"]), code: Number(x["code"] ?? 0) };
    case "frame":
      return { type: "frame", attempt, message: readFrame(x["message"]) };
    case "arriving":
      return { type: "arriving", attempt, at: duration(x["at"]) };
    case "network_changed":
      return { type: "networkChanged", name: String(x["name"] ?? "") };
    case "pause":
    case "online":
    case "foreground":
      return { type: name, on };
    case "from_store":
      return { type: "fromStore", id, entries: listOf(x["entries"], readEntry) };
    case "send":
      return { type: "send", message: readOutgoing(fieldsOf(x["message"])) };
    case "do":
      return { type: "do", id: String(x["id"]), command: readCommand(fieldsOf(x["command"])) };
    case "resend":
    case "discard":
      return { type: name, id: String(x["id"]) };
    case "confirm":
      return { type: "confirm", number: Number(x["number"] ?? 0), answers: listOf(x["answers"], readOutgoing) };
    case "follow":
      return { type: "follow", conversation, after: Number(x["after"] ?? 0) };
    case "open":
    case "typing":
      return { type: name, conversation };
    case "reading":
      return { type: "reading", conversation, on };
    case "fill":
      return fill({ type: "fill", id, conversation, before: 0, limit: 0 }, x);
    case "ask":
      return fill({ type: "ask", id, conversation, from: 0, to: 0, limit: 0, newestFirst: false, changes: false }, x);
    case "ask_receipts":
      return fill({ type: "askReceipts", id, conversation, from: 0, to: 0, readers: false, after: "" }, x);
    case "ask_members":
      return fill({ type: "askMembers", id, conversation, after: "" }, x);
    case "look":
      return { type: "look", conversations: textsOf(x["conversations"]), users: textsOf(x["users"]) };
    case "unask":
      return { type: "unask", id };
    default:
      throw new Error(`no input is called ${name}`);
  }
}

// What is written.

/** Turns a field's name into its form in transcripts. */
function snake(name: string): string {
  return name.replace(/(?<![A-Z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

function writeBytes(b: Uint8Array): string {
  const text = Buffer.from(b).toString();
  const printable = Buffer.from(text).equals(b) && !text.startsWith("base64:") && !/\p{Cc}/u.test(text);
  return printable ? text : `base64:${Buffer.from(b).toString("base64")}`;
}

function writeFrame(frame: FrameInit): Fields {
  const schema = schemaOf(frame.type);
  const message = fromBinary(schema, encode(frame).subarray(1));
  return { [frame.type]: normal(toJson(schema, message, { useProtoFieldName: true })) };
}

/** The members that are lengths of time. */
const durations = new Set(["retryIn", "every"]);

/** Returns x as transcripts have it. Fields of embedded structs are those of the struct around them. */
function write(x: unknown, name = ""): Json {
  if (x === undefined || x === null || x === noClientMessageID) {
    return null;
  }
  if (x instanceof PimError) {
    return { kind: kinds.indexOf(x.kind), retry_after: x.retryAfter };
  }
  if (x instanceof Uint8Array) {
    return name === "key" ? [...x] : writeBytes(x);
  }
  if (Array.isArray(x)) {
    return x.map((item) => write(item));
  }
  if (typeof x === "object") {
    const fields: Fields = {};
    for (const [key, value] of Object.entries(x)) {
      fields[snake(key)] = durations.has(key) ? Number(value ?? 0) / millisecond : write(value, key);
    }
    return fields;
  }
  return x as boolean | number | string;
}

function writeConversation({ mentioned, ...row }: types.Conversation): Json {
  return write({ ...row, ...mentioned });
}

function writeEvent({ type, ...event }: types.Event): Fields {
  // Of the connection's errors transcripts have the text alone, as they need not be PimErrors, unless they name a time.
  const text = "err" in event && type === "state" && !(event.err instanceof PimError && event.err.retryAfter !== 0);
  const body = text && event.err instanceof Error ? { ...event, err: event.err.message } : event;
  return { [`${snake(type)}_event`]: write(body) };
}

/** Returns out as transcripts have it. */
function writeOutput(out: Output): Json {
  const { store, events, frames, ...rest } = out;
  const { conversations, entries, folds, ...others } = store;
  return normal({
    ...fieldsOf(write(rest)),
    store: {
      ...fieldsOf(write(others)),
      conversations: conversations.map(writeConversation),
      entries: entries.map(({ entry, ...stored }) => write({ ...entry, ...stored })),
      folds: folds.map(({ conversation, fold }) => write({ conversation, ...fold })),
    },
    events: events.map(writeEvent),
    frames: frames.map(writeFrame),
  });
}

/**
 * Returns x without the members that are zero or empty, and of errors only what is compared: the kind, and how long to wait.
 */
function normal(x: Json): Json {
  if (Array.isArray(x)) {
    return x.map((item) => (typeof item === "object" ? (normal(item) ?? {}) : item));
  }
  if (x === null || typeof x !== "object") {
    return x;
  }
  const fields: Fields = {};
  for (const [name, value] of Object.entries(x)) {
    const kept = isError(name) ? normalError(value ?? null) : normal(value ?? null);
    const event = name.endsWith("_event") || schemas.has(name); // its name says something
    if (event) {
      fields[name] = kept ?? {};
    } else if (!isEmpty(kept)) {
      fields[name] = kept;
    }
  }
  return fields;
}

function isError(name: string): boolean {
  return name === "err" || name === "failed";
}

function normalError(x: Json): Json {
  if (typeof x === "string") {
    return { kind: /\(([a-z_]+)\)$/.exec(x)?.[1] ?? "none" };
  }
  if (x === null) {
    return null;
  }
  const { kind, retry_after } = fieldsOf(x);
  return { kind: kind ?? 0, retry_after: retry_after ?? 0 };
}

function isEmpty(x: Json): boolean {
  if (typeof x === "object" && x !== null) {
    return Object.keys(x).length === 0;
  }
  return x === null || x === 0 || x === "" || x === false;
}
