import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { runInNewContext } from "node:vm";
import { open as openInNode, openFile } from "../src/node/index.js";
import {
  answerID,
  checkConversationID,
  checkDeviceID,
  checkUserID,
  type Client,
  type Conversation,
  clientMessageIDBytes,
  clientMessageIDOf,
  encodeContent,
  type EntryEvent,
  kindOf,
  makeEntry,
  Memory,
  newClientMessageID,
  open,
  type Options,
  parseClientMessageID,
  parseContent,
  PimError,
  type View,
} from "../src/index.js";
import { Sending, Sendings } from "../src/client/sending.js";
import { Network } from "./fakes.js";

// What an app hands in by mistake is refused, by an error of kind "invalid", and changes nothing. Programs in JavaScript have no
// compiler that would say so.

const huge = "x".repeat(1_000_000);
const half = "\ud800"; // of a surrogate pair
const never = [undefined, null, 5, "5", {}, Number.NaN, true, 5n, [5], () => 5]; // of which each table takes what is wrong for it
const typeOf = (v: unknown): string => (Array.isArray(v) ? "list" : v === null ? "null" : typeof v);
const no = (...right: string[]): unknown[] => never.filter((v) => !right.includes(typeOf(v)));
const noOptions = no("object", "list", "undefined");
const badIDs = [...no("string"), "", half, "a b", "a:b", huge];
const badConversations = [...no("string"), "", half, "bob", "d:bob:alice", `g:${huge}`];
const badTexts = [...no("string"), "", `text${half}`];
const badBytes = no();
const badNumbers = [...no("number"), Number.NaN, -1, 0.5, 2 ** 53, Infinity];
const badSwitches = no("boolean", "undefined"); // a switch that is missing is on
const badLists = [...no("list"), [5], [half], ["a b"]];
const badPlaces = badNumbers.filter((n) => n !== undefined); // which may be missing

let net: Network;
let me: Client;
let chat: Conversation;
let view: View;

type Call = [name: string, bad: unknown[], call: (bad: never) => unknown];

/** All that waits, and is given Waiting last. */
const waits: [name: string, call: (o: never) => unknown][] = [
  ["events", (o) => me.events(o)],
  ["synced", (o) => me.synced(o)],
  ["retention", (o) => chat.retention(o)],
  ["pull", (o) => chat.pull(o)],
  ["members", (o) => chat.members("", o)],
  ["receipts", (o) => chat.receipts(1, 1, o)],
  ["readers", (o) => chat.readers(1, "", o)],
  ["older", (o) => view.older(1, o)],
  ["changes", (o) => view.changes(o).next()],
  ["wait", (o) => new Sending(new Sendings(), newClientMessageID()).wait(o)],
];

/** All that takes an argument, and what it refuses. The rest of its arguments is right. */
const calls: Call[] = [
  ["conversation", badConversations, (id) => me.conversation(id)],
  ["direct", badIDs, (user) => me.direct(user)],
  ["createGroup", [...badLists, [""]], (members) => me.createGroup(members)],
  ["do", [...no("object", "list"), { kind: "x" }], (command) => me.do(command)],
  ["do: subject", badIDs, (subject) => me.do({ kind: 2, subject })],
  ["do: until", badNumbers, (until) => me.do({ kind: 3, subject: chat.id, until })],
  ["setContact: user", badIDs, (user) => me.setContact(user, new Uint8Array(1))],
  ["setContact: value", badBytes, (value) => me.setContact("bob", value)],
  ["removeContact", badIDs, (user) => me.removeContact(user)],
  ["block: user", badIDs, (user) => me.block(user)],
  ["block: on", badSwitches, (on) => me.block("bob", on)],
  ["Client.markRead", no("function"), (e) => me.markRead(e)],
  ["Client.markRead: seq", badNumbers, (seq) => me.markRead({ ...makeEntry({ conversation: chat.id }), seq })],
  ["setReceipts", [...badSwitches, undefined], (on) => me.setReceipts(on)],
  ["setPresence", [...badSwitches, undefined], (on) => me.setPresence(on)],
  ["look: conversations", badLists, (list) => me.look(list)],
  ["look: users", badLists.filter((l) => l !== undefined), (list) => me.look([], list)],
  ["networkChanged", [...no("string", "undefined"), half, huge], (name) => me.networkChanged(name)],
  ["setOnline", [...badSwitches, undefined], (on) => me.setOnline(on)],
  ["setForeground", [...badSwitches, undefined], (on) => me.setForeground(on)],
  ["watch: conversation", badConversations, (id) => me.watch(id, 1)],
  ["watch: after", badNumbers, (after) => me.watch(chat.id, after)],
  ["on", no("function"), (listener) => me.on("entry", listener)],
  ["events", badPlaces, (buffer) => me.events({ buffer })],
  ["confirm", no("function"), (ev) => me.confirm(ev)],
  ["send", badBytes, (payload) => chat.send(payload)],
  ["send: mentions", badLists.filter((l) => l !== undefined), (mentions) => chat.send(new Uint8Array(1), { mentions })],
  ["send: mentionAll", badSwitches, (mentionAll) => chat.send(new Uint8Array(1), { mentionAll })],
  ["sendText", badTexts, (text) => chat.sendText(text)],
  ["sendContent", [...no(), { text: 5 }, { text: half }], (say) => chat.sendContent(say)],
  ["sendContent: reply", [5, "x", {}, { seq: -1, sender: "", excerpt: "" }], (reply) => chat.sendContent({ text: "x", reply })],
  ["sendContent: mentions", [5, {}, [5], [{}]], (mentions) => chat.sendContent({ text: "x", mentions })],
  ["reply: to", no(), (to) => chat.reply(to, "x")],
  ["reply: text", badTexts, (text) => chat.reply(makeEntry({ seq: 1 }), text)],
  ["edit: seq", [...badNumbers, 0], (seq) => chat.edit(seq, new Uint8Array(1))],
  ["edit: payload", badBytes, (payload) => chat.edit(1, payload)],
  ["editText", badTexts, (text) => chat.editText(1, text)],
  ["recall", [...badNumbers, 0], (seq) => chat.recall(seq)],
  ["react: seq", [...badNumbers, 0], (seq) => chat.react(seq, "x")],
  ["react: text", badTexts, (text) => chat.react(1, text)],
  ["react: on", badSwitches, (on) => chat.react(1, "x", on)],
  ["pinMessage: seq", [...badNumbers, 0], (seq) => chat.pinMessage(seq)],
  ["pinMessage: on", badSwitches, (on) => chat.pinMessage(1, on)],
  ["erase", badPlaces, (upTo) => chat.erase(upTo)],
  ["join", badIDs, (user) => chat.join(user)],
  ["leave", badIDs, (user) => chat.leave(user)],
  ["retain", [...badNumbers, 1], (age) => chat.retain(age)],
  ["pull: from", badPlaces, (from) => chat.pull({ from })],
  ["pull: to", badPlaces, (to) => chat.pull({ to })],
  ["pull: limit", badPlaces, (limit) => chat.pull({ limit })],
  ["members", badIDs.filter((id) => id !== "" && id !== undefined), (after) => chat.members(after)],
  ["receipts: from", badNumbers, (from) => chat.receipts(from, 1)],
  ["receipts: to", badNumbers, (to) => chat.receipts(1, to)],
  ["readers: seq", badNumbers, (seq) => chat.readers(seq)],
  ["readers: after", badIDs.filter((id) => id !== "" && id !== undefined), (after) => chat.readers(1, after)],
  ["mute", [Number.NaN, -1, Infinity, "x", null, {}, true, new Date(Number.NaN)], (until) => chat.mute(until)],
  ["pin", badSwitches, (on) => chat.pin(on)],
  ["message", badNumbers, (seq) => chat.message(seq)],
  ["messages", badNumbers, (n) => chat.messages(n)],
  ["entries", badNumbers, (n) => chat.entries(n)],
  ["entriesAfter: after", badNumbers, (after) => chat.entriesAfter(after)],
  ["entriesAfter: limit", [...badPlaces, 0, 1_000_000], (limit) => chat.entriesAfter(0, limit)],
  ["older", badNumbers, (n) => view.older(n)],
  ["onChange", no("function"), (listener) => view.onChange(listener)],
  ["encodeContent", [...no(), { text: 5 }], (say) => encodeContent(say)],
  ["parseContent", badBytes, (payload) => parseContent(payload)],
  ["checkUserID", badIDs, (id) => checkUserID(id)],
  ["checkDeviceID", badIDs, (id) => checkDeviceID(id)],
  ["checkConversationID", badConversations, (id) => checkConversationID(id)],
  ["clientMessageIDOf", [...badBytes, new Uint8Array(15)], (bytes) => clientMessageIDOf(bytes)],
  ["clientMessageIDBytes", badTexts, (id) => clientMessageIDBytes(id)],
  ["parseClientMessageID", badTexts, (id) => parseClientMessageID(id)],
  ["openFile", no("string"), (path) => openFile(path)],
  ["openFile: compactAfter", badPlaces, (compactAfter) => openFile("/nowhere/x", { compactAfter })],
  ["pull: newestFirst", badSwitches, (newestFirst) => chat.pull({ newestFirst })],
  ["answerID: secret", badBytes, (secret) => answerID(secret, makeEntry({ conversation: chat.id }), 0)],
  ["answerID: entry", no("object", "list"), (e) => answerID(new Uint8Array(1), e, 0)],
  ["answerID: n", badNumbers, (n) => answerID(new Uint8Array(1), makeEntry({ conversation: chat.id }), n)],
  // The options that come last.
  ["events: options", noOptions, (o) => me.events(o)],
  ["send: options", noOptions, (o) => chat.send(new Uint8Array(1), o)],
  ["sendText: options", noOptions, (o) => chat.sendText("x", o)],
  ["sendContent: options", noOptions, (o) => chat.sendContent({ text: "x" }, o)],
  ["reply: options", noOptions, (o) => chat.reply(makeEntry({ seq: 1 }), "x", o)],
  ["Memory: options", noOptions, (o) => new Memory(o)],
  ["openFile: options", noOptions, (o) => openFile("/nowhere/x", o)],
  ...waits.map(([name, call]) => [`${name}: options`, noOptions, call] as Call),
  ...waits.map(([name, call]) => [`${name}: signal`, [null, 5, "5", {}, [5]], (signal) => call({ signal } as never)] as Call),
];

const right: Options = { server: "ws://one", insecure: true, token: "token", user: "alice", device: "phone" };

/** Options, and what open refuses of each. */
const options: [name: keyof Options, bad: unknown[]][] = [
  ["server", [...no("string"), "", "x", half, "ftp://x", "tcp://x", "ws://"]],
  // null in the place of an option says that it is missing.
  ["servers", badLists.filter((l) => l !== undefined && l !== null)],
  ["token", no("string", "function")],
  ["user", badIDs.filter((id) => id !== "" && id !== undefined && id !== null)],
  ["device", badIDs],
  ["store", no("undefined")],
  ["agent", [...no("string", "undefined", "null"), half, huge]],
  ["backoffMin", [-1, Infinity, Number.NaN, "x"]],
  ["requestTimeout", [-1, Infinity, Number.NaN, "x"]],
  ["lazyGap", [-1, Infinity, Number.NaN, "x"]],
  ["webSocket", no("function", "undefined")],
];

beforeEach(async () => {
  net = new Network();
  me = await net.open({ store: new Memory() });
  chat = me.direct("bob");
  view = await chat.messages(10);
});

afterEach(async () => {
  const closed = me.close();
  await net.clock.pass(1);
  await closed;
});

/** Returns how a call with something wrong is refused; undefined if it is not. */
async function refusal(call: (bad: never) => unknown, bad: unknown): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => (timer = setTimeout(() => resolve("it waits"), 300_000)));
  try {
    return await Promise.race([late, (async () => void (await call(bad as never)))()]);
  } catch (err) {
    return err;
  } finally {
    clearTimeout(timer);
  }
}

/** Says which of what is bad is not refused as it should be. */
async function notRefused(name: string, bad: readonly unknown[], call: (bad: never) => unknown): Promise<string[]> {
  const wrong: string[] = [];
  for (const value of bad) {
    const err = await refusal(call, value);
    const typed = err instanceof PimError && ["invalid", "too_large"].includes(kindOf(err));
    if (!typed) {
      const said = typeof value === "string" ? JSON.stringify(value.slice(0, 20)) : `${typeof value} ${String(value)}`;
      wrong.push(`${name} of ${said}: ${String(err)}`);
    }
  }
  return wrong;
}

test("what an app hands in by mistake is refused, and nothing is lost or queued", async () => {
  const wrong: string[] = [];
  for (const [name, bad, call] of calls) {
    wrong.push(...(await notRefused(name, bad, call)));
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(await me.outbox(), []);
  const { wait } = await chat.sendText("right");
  assert.ok(wait);
  assert.equal((await me.outbox()).length, 1, "it goes on");
  assert.equal(me.stopped, undefined);
});

test("bytes of another realm are bytes", async () => {
  const foreign = runInNewContext("Uint8Array.of(104, 105)") as Uint8Array;
  assert.equal(foreign instanceof Uint8Array, false);
  assert.equal(parseContent(foreign).text, "hi");
  await chat.send(foreign);
  await me.setContact("bob", foreign);
  const [message] = await me.outbox();
  assert.deepEqual(message?.payload, Uint8Array.of(104, 105));
  assert.deepEqual(me.contacts()[0]?.value, Uint8Array.of(104, 105));
});

test("an Answer that is wrong is refused, and the entry is not confirmed", async () => {
  const bot = await net.open({ store: new Memory(), confirm: true, device: "bot" });
  const ev: EntryEvent = { type: "entry", number: 0, late: false, entry: makeEntry({ conversation: chat.id }) };
  const wrong = [
    ...(await notRefused("payload", [undefined, null, 5, {}, half], (payload) => bot.confirm(ev, { payload }))),
    ...(await notRefused("answer", no("object", "list"), (answer) => bot.confirm(ev, answer))),
    ...(await notRefused("conversation", [5, "", "bob"], (conversation) => bot.confirm(ev, { payload: "x", conversation }))),
    ...(await notRefused("id", [5, "", "x"], (id) => bot.confirm(ev, { payload: "x", id }))),
    ...(await notRefused("number", [undefined, "1", Number.NaN, 7], (number) => bot.confirm({ ...ev, number }))),
  ];
  assert.deepEqual(wrong, []);
  assert.deepEqual(await bot.outbox(), []);
  const closed = bot.close();
  await net.clock.pass(1);
  await closed;
  assert.match(answerID(new Uint8Array(16), ev.entry, 0), /-7/);
});

test("options that are wrong are refused, by both open", async () => {
  const wrong: string[] = [];
  for (const [how, opens] of Object.entries({ open, openInNode })) {
    wrong.push(...(await notRefused(how, [...no("object", "list"), {}, [5]], (o) => opens(o))));
    for (const [name, bad] of options) {
      wrong.push(
        ...(await notRefused(`${how} with ${name}`, bad, (is) => opens({ ...right, webSocket: net.webSocket, [name]: is }))),
      );
    }
  }
  assert.deepEqual(wrong, []);
});
