import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client/client.js";
import { Core } from "../src/client/core.js";
import { type Session, type Started, type Update } from "../src/client/session.js";
import { type SendEvent } from "../src/client/events.js";
import { CommandKind, makeCommand, makeEntry, newClientMessageID, noSetting, PimError } from "../src/pim/index.js";
import { settled } from "./fakes.js";

// A Client on a Session that another loop takes over, as when a tab that leads is closed.

const conversation = "d:alice:bob";
const nothing: Started = { number: 0, user: "alice", state: "connected", err: undefined, settings: [], synced: false };

test("when another loop leads, all is read anew, and nothing that comes meanwhile is lost", async () => {
  let tell: (update: Update) => void = () => undefined;
  const starts: ((s: Started) => void)[] = [];
  const pages: ((page: object) => void)[] = [];
  const ended: SendEvent[] = [];
  const session = {
    feed: undefined,
    listen: (on: typeof tell) => {
      tell = on;
      return () => undefined;
    },
    start: () => new Promise<Started>((resolve) => starts.push(resolve)),
    page: () => new Promise((resolve) => pages.push(resolve)),
    outbox: () => Promise.resolve([]),
    ended: () => Promise.resolve(ended),
    rows: () => Promise.resolve([]),
    do: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const starting = Core.start(session as unknown as Session, "phone");
  tell({ type: "synced", number: 1, on: true }); // before the answer, which has it already
  tell({ type: "synced", number: 3, on: true }); // behind it
  starts.shift()?.({ ...nothing, number: 2 });
  const c = new Client(await starting);
  await c.synced();

  const empty = { entries: [], folds: [], missing: false, skipped: 0, front: 0, outbox: [] };
  const opened = c.conversation(conversation).messages(10);
  await settled();
  pages.shift()?.({ ...empty, number: 3 });
  const view = await opened;
  const sending = await c.conversation(conversation).sendText("hi");
  const heard = await c.conversation(conversation).sendText("hi again");
  const [refused, replaced] = [await c.conversation(conversation).pin(), await c.conversation(conversation).pin()];
  const sent = { conversation, seq: 5, anchor: 5, server: 1, ahead: 0, order: 0, count: 5, allCount: 0 };
  const all = { ...sent, duplicate: false, strangers: [] };
  const other = newClientMessageID();
  ended.push(
    { type: "send", id: heard.id, conversation, state: "sent", sent: all },
    { type: "send", id: refused.id, conversation, state: "failed", err: new PimError("forbidden", "no") },
    { type: "send", id: replaced.id, conversation, state: "superseded", by: other },
    { type: "send", id: other, conversation, state: "sent", sent: { ...all, seq: 6 } },
  );
  const told: number[] = [];
  c.on("entry", (e) => told.push(e.entry.seq));

  tell({ type: "reset", number: 10 });
  await settled();
  pages.shift()?.({ ...empty, number: 11 });
  await settled();
  const entry = (seq: number) => makeEntry({ conversation, seq, anchor: seq, kind: 1, sender: "bob", server: seq });
  tell({ type: "event", number: 12, event: { type: "entry", entry: entry(1), late: false, number: 1 }, skipped: 0 });
  const command = makeCommand({ kind: CommandKind.pin, subject: conversation });
  const setting = { entity: "pin/x", ...noSetting, ...command, at: 7 };
  starts.shift()?.({ ...nothing, number: 13, settings: [setting], synced: true });
  await settled();
  assert.deepEqual(told, [1]);
  assert.deepEqual(
    view.items().map((m) => m.entry.seq),
    [1],
  );
  assert.equal(c.setting("pin/x").at, 7);
  await c.synced();
  assert.equal((await heard.wait()).seq, 5);
  await assert.rejects(refused.wait(), { kind: "forbidden" });
  assert.equal((await replaced.wait()).seq, 6);
  await assert.rejects(sending.wait(), { kind: "unknown" }); // it has left the outbox, and nobody has told how
  await view.close();
  await c.close();
  await assert.rejects(c.synced(), { kind: "unavailable" });
});
