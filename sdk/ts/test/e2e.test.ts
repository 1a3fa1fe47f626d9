import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import {
  type Client,
  type ClientMessageID,
  CommandKind,
  direct,
  type Event,
  type EventOf,
  Memory,
  PimError,
  type View,
} from "../src/index.js";
import { type NodeOptions, open } from "../src/node/index.js";
import { Server } from "./server.js";

// Against the real server, with the Go client on the other side. A time limit only tells that something hangs.

const hangs = { timeout: 600_000 };

let server: Server;
let clients: Client[] = [];
let users = 0;

before(async () => {
  server = await Server.start();
});

afterEach(async () => {
  await Promise.all(clients.map((c) => c.close()));
  clients = [];
});

after(async () => {
  await server.end();
});

/** Returns names that no other test has. */
function names(...all: string[]): string[] {
  users++;
  return all.map((name) => `${name}${users}`);
}

/** Opens a device of user. */
async function device(user: string, name: string, o: Partial<NodeOptions> = {}): Promise<Client> {
  const token = (): string => server.token(user);
  const c = await open({ server: server.tcp, token, user, device: name, backoffMin: 20, backoffMax: 100, ...o });
  clients.push(c);
  return c;
}

/** Waits until a View shows these lines: texts, with their states unless they were sent. */
async function shows(view: View, want: string[]): Promise<void> {
  let got: string[] = [];
  await until(view, (items) => {
    got = items.map((m) => m.text() + (m.pending() ? ` ${m.state}` : ""));
    return JSON.stringify(got) === JSON.stringify(want);
  });
  assert.deepEqual(got, want);
}

/** Waits until what a View shows is as holds says, at most until the test is taken to hang. */
async function until(view: View, holds: (items: ReturnType<View["items"]>) => boolean): Promise<void> {
  const signal = AbortSignal.timeout(300_000);
  try {
    for await (const items of view.changes({ signal })) {
      if (holds(items)) {
        return;
      }
    }
  } catch (err) {
    if (!signal.aborted) {
      throw err;
    }
  }
}

/** Returns the first event of a type, from now on, of which holds says so. */
function next<T extends Event["type"]>(
  c: Client,
  type: T,
  holds: (e: EventOf<T>) => boolean = () => true,
): Promise<EventOf<T>> {
  return new Promise((resolve) => {
    const end = c.on(type, (e) => {
      if (holds(e)) {
        end();
        resolve(e);
      }
    });
  });
}

test("two devices and the Go client talk, over WebSocket and TCP", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const alice = await device(a, "phone");
  const bob = await device(b, "laptop", { server: server.url });
  const theirs = await bob.direct(a).messages(10);
  const sent = await (await alice.direct(b).sendText("hi")).wait();
  assert.equal(sent.seq, 1);
  await shows(theirs, ["hi"]);
  await server.pim(b, "send", "hello", "--to", a);
  await shows(await alice.direct(b).messages(10), ["hi", "hello"]);
  await shows(theirs, ["hi", "hello"]);
  assert.deepEqual(await server.tail(b, a, 2), ["hi", "hello"]);
});

test("a port of the other protocol is told to the app", hangs, async () => {
  const [a = ""] = names("alice");
  // The other way round the server only answers after 10 s: tcp.test.ts has its answer.
  const c = await device(a, "phone", { server: server.tcp.replace("tcp", "http") });
  const { err } = await next(c, "state", (e) => e.err !== undefined);
  assert.ok(err instanceof PimError);
  assert.match(err.message, /not as a WebSocket \(tcp:\/\/ has a port of its own\)/);
});

test("a server that is killed while messages are sent loses, doubles and swaps none", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const bob = await device(b, "laptop", { server: server.url });
  const alice = await device(a, "phone");
  const n = 200;
  const all = [];
  for (let i = 0; i < n; i++) {
    all.push(await alice.direct(b).sendText(`${i}`));
    if (i % 100 === 50) {
      await all[i - 20]?.wait();
      await server.kill();
      await server.run();
    }
  }
  const seqs = await Promise.all(all.map((s) => s.wait()));
  assert.deepEqual(
    seqs.map((s) => s.seq),
    Array.from({ length: n }, (_, i) => i + 1),
  );
  const lines = Array.from({ length: n }, (_, i) => `${i}`);
  await shows(await bob.direct(a).messages(n), lines);
  await shows(await alice.direct(b).messages(n), lines);
  await alice.synced();
  assert.deepEqual(await alice.outbox(), []);
});

test("what is written offline is sent when the device is back, also by another process", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const store = new Memory();
  const alice = await device(a, "phone", { store });
  await alice.synced();
  await alice.setOnline(false);
  assert.equal(alice.state, "offline");
  const view = await alice.direct(b).messages(10);
  await alice.direct(b).sendText("one");
  await alice.direct(b).sendText("two");
  await shows(view, ["one queued", "two queued"]);
  await alice.setOnline(true);
  await shows(view, ["one", "two"]);
  await alice.setOnline(false);
  await alice.direct(b).sendText("three");
  await alice.close();
  await assert.rejects(alice.direct(b).sendText("four"), { kind: "unavailable" });

  const again = await device(a, "phone", { store });
  await shows(await again.direct(b).messages(10), ["one", "two", "three"]);
});

test("edits, recalls, reactions, pins and replies are shown on both sides", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const alice = await device(a, "phone");
  const bob = await device(b, "laptop");
  const mine = await alice.direct(b).messages(10);
  const theirs = await bob.direct(a).messages(10);
  await alice.direct(b).sendText("first");
  const second = await (await alice.direct(b).sendText("second")).wait();
  await shows(theirs, ["first", "second"]);

  await alice.direct(b).editText(1, "first, edited");
  await bob.direct(a).react(1, "👍");
  await bob.direct(a).pinMessage(1);
  const before = theirs.items();
  await (await alice.direct(b).recall(second.seq)).wait();
  for (const view of [mine, theirs]) {
    await until(
      view,
      ([one, two]) => one?.reactions().length === 1 && one.pinned() && one.edited() && two?.recalled() === true,
    );
    const [one, two] = view.items();
    assert.equal(one?.text(), "first, edited");
    assert.deepEqual(one.reactions(), [{ text: "👍", users: [b], mine: view === theirs }]);
    assert.equal(two?.text(), "");
  }
  assert.notEqual(before[1], theirs.items()[1]);

  const [line] = theirs.items();
  assert.ok(line);
  await (await bob.direct(a).reply(line.entry, "yes")).wait();
  await until(mine, (items) => items.length === 3);
  const { seq, sender, excerpt } = mine.items()[2]?.content().reply ?? {};
  assert.deepEqual([seq, sender, excerpt], [1, a, "first"]);
  assert.deepEqual((await bob.direct(a).message(1))?.text(), "first, edited");
  assert.equal(await bob.direct(a).message(99), undefined);

  await bob.direct(a).react(1, "👍", false);
  await until(mine, ([one]) => one?.reactions().length === 0);
  assert.deepEqual(mine.items()[0]?.reactions(), []);
});

test("what is read on one device is read on the other, and the sender is told", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const alice = await device(a, "phone");
  const laptop = await device(b, "laptop");
  const phone = await device(b, "phone");
  for (const text of ["one", "two", "three"]) {
    await (await alice.direct(b).sendText(text, { mentions: [b] })).wait();
  }
  await shows(await phone.direct(a).messages(5), ["one", "two", "three"]);
  const before = await phone.direct(a).info();
  assert.deepEqual([before.unread, before.mentions, before.text()], [3, 3, "three"]);
  assert.deepEqual(
    (await phone.conversations()).map((i) => [i.id, i.unread]),
    [[before.id, 3]],
  );

  const read = next(phone, "read");
  await alice.look([before.id]);
  const told = next(alice, "receipt", (e) => e.receipts.read > 0); // on a slow machine she is told before that nobody has read
  await shows(await laptop.direct(a).messages(5), ["one", "two", "three"]);
  await (await laptop.direct(a).markRead())?.wait();
  assert.equal((await read).seq, 3);
  assert.equal((await told).receipts.read, 3);
  assert.equal((await phone.direct(a).info()).unread, 0);
  assert.equal((await alice.direct(b).receipts(1, 3)).read, 3);

  await phone.setForeground(true);
  await phone.direct(a).open();
  const four = next(phone, "entry", (e) => e.entry.seq === 4);
  await alice.direct(b).sendText("four");
  await four;
  assert.equal((await phone.direct(a).info()).unread, 0);
});

test("groups are made, joined, left and asked about", hangs, async () => {
  const [a = "", b = "", c = ""] = names("alice", "bob", "carol");
  const alice = await device(a, "phone");
  const bob = await device(b, "laptop");
  const { conversation } = await (await alice.createGroup([b])).wait();
  const group = alice.conversation(conversation);
  await (await group.join(c)).wait();
  await (await group.sendText("all", { mentionAll: true })).wait();
  assert.deepEqual(
    (await group.members()).members.map((m) => m.user),
    [a, b, c],
  );
  await until(await bob.conversation(conversation).messages(10), (items) => items.at(-1)?.text() === "all");
  assert.equal((await bob.conversation(conversation).info()).mentions, 1);
  assert.deepEqual(
    (await group.readers(3)).readers.map((r) => [r.user, r.read]),
    [
      [b, false],
      [c, false],
    ],
  );
  await (await group.leave(c)).wait();
  assert.deepEqual(
    (await group.members()).members.map((m) => m.user),
    [a, b],
  );
  assert.equal((await group.retention()).inForce, 0);
  const page = await group.pull({ from: 1, limit: 2 });
  assert.deepEqual(
    page.entries.map((e) => e.seq),
    [1, 2],
  );
  await assert.rejects(bob.conversation("g:nosuch").members(), { kind: "not_member" });
});

test("commands take effect on all devices", hangs, async () => {
  const [b = "", a = ""] = names("bob", "alice");
  const laptop = await device(b, "laptop");
  const phone = await device(b, "phone");
  await phone.synced();
  const contact = next(phone, "setting", (e) => e.setting.kind === CommandKind.contact);
  await (await laptop.setContact(a, Uint8Array.of(1, 2))).wait();
  await contact;
  assert.deepEqual(
    phone.contacts().map((s) => [s.subject, [...s.value]]),
    [[a, [1, 2]]],
  );
  const pinned = next(phone, "setting", (e) => e.setting.kind === CommandKind.pin);
  await laptop.direct(a).mute();
  await (await laptop.direct(a).pin()).wait();
  await pinned;
  const info = await phone.direct(a).info();
  assert.deepEqual([info.pinned, info.muted, info.marked], [true, true, false]);
});

test("what the server refuses is told, and what was aborted rejects", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const alice = await device(a, "phone");
  await alice.synced();
  const recall = await alice.direct(b).recall(7);
  await assert.rejects(recall.wait(), PimError);
  assert.deepEqual(await alice.outbox(), []);
  await alice.setOnline(false);
  const reason = new Error("no time");
  await assert.rejects(alice.direct(b).receipts(1, 2, { signal: AbortSignal.abort(reason) }), reason);
  const control = new AbortController();
  const asked = alice.direct(b).receipts(1, 2, { signal: control.signal });
  const synced = alice.synced({ signal: control.signal });
  const sending = (await alice.direct(b).sendText("later")).wait({ signal: control.signal });
  setImmediate(() => control.abort(reason));
  for (const waiting of [asked, synced, sending]) {
    await assert.rejects(waiting, reason);
  }
});

test("a token that is refused is asked for again, and another user's stops the client", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bob");
  const tokens = ["nonsense", server.token(a)];
  const alice = await device(a, "phone", { token: () => tokens.shift() ?? server.token(a) });
  await alice.synced();
  const wrong = await device(b, "phone", { token: server.token(a) });
  await assert.rejects(wrong.synced());
  assert.equal(wrong.state, "stopped");
  assert.ok(wrong.stopped);
});

test("an app that confirms gets every entry until it has confirmed it, and answers once", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bot");
  const store = new Memory();
  const o = { store, confirm: true };
  await (await device(b, "server", o)).close();
  const alice = await device(a, "phone");
  const view = await alice.direct(b).messages(20);
  const want: ClientMessageID[] = [];
  for (let i = 0; i < 5; i++) {
    want.push((await alice.direct(b).sendText(`${i}`)).id);
  }
  const got: ClientMessageID[] = [];
  // It takes each entry twice: without confirming it, and again after another start.
  for (let round = 0; got.length < 10; round++) {
    const bot = await device(b, "server", o);
    for await (const ev of bot.events()) {
      if (ev.type !== "entry" || ev.entry.sender === b) {
        continue;
      }
      got.push(ev.entry.clientID);
      if (round % 2 === 1) {
        await bot.confirm(ev, { payload: `to ${got.length / 2}` });
      }
      break;
    }
    await bot.close();
  }
  assert.deepEqual(
    got,
    want.flatMap((id) => [id, id]),
  );
  await device(b, "server", o);
  await until(view, (items) => items.length === 10);
  assert.equal(view.items().filter((m) => m.text().startsWith("to ")).length, 5);
});

test("the bot of the examples answers each message once, though it is killed again and again", hangs, async () => {
  const [a = "", b = ""] = names("alice", "bot");
  const alice = await device(a, "phone");
  const view = await alice.direct(b).messages(200);
  const env = { PIM_SERVER: server.tcp, PIM_USER: b, PIM_TOKEN: server.token(b), PIM_STORE: "bot.pim" };
  const answered = (n: number): Promise<void> => until(view, (items) => items.filter((m) => m.entry.sender === b).length >= n);
  const n = 60;
  let bot = server.example("examples/node-bot/bot.mjs", env);
  // What is written before a bot has ever had its store is older than what it confirms.
  const first = await alice.direct(b).sendText("are you there?");
  await first.wait();
  for (let more = true; more;) {
    more = await Promise.race([
      answered(1).then(() => false),
      new Promise<boolean>((resolve) => setTimeout(resolve, 200, true)),
    ]);
    if (more) {
      await (await alice.direct(b).sendText("are you there?")).wait();
    }
  }
  const asked: string[] = [];
  for (let i = 0; i < n; i++) {
    asked.push(`${i}`);
    await alice.direct(b).sendText(`${i}`);
    if (i % 20 === 10) {
      const has = view.items().length;
      await until(view, (items) => items.length > has);
      const ended = new Promise((resolve) => bot.once("exit", resolve));
      bot.kill("SIGKILL");
      await ended;
      bot = server.example("examples/node-bot/bot.mjs", env);
    }
  }
  const answers = (): string[] => {
    const all = view.items().filter((m) => m.entry.sender === b);
    return all.map((m) => m.text()).filter((text) => text !== "are you there?");
  };
  await until(view, () => answers().length >= n);
  assert.deepEqual(answers(), asked);
  const ended = new Promise((resolve) => bot.once("exit", resolve));
  bot.kill("SIGKILL");
  await ended;
});

test("the bot of the examples says in a line what is wrong with its settings", hangs, async () => {
  for (const wrong of [{ PIM_SERVER: "nowhere" }, { PIM_USER: "a b" }, { PIM_STORE: "no/such/folder" }]) {
    const bot = server.example(
      "examples/node-bot/bot.mjs",
      { PIM_SERVER: server.tcp, PIM_STORE: "wrong.pim", ...wrong },
      "pipe",
    );
    let said = "";
    bot.stderr?.setEncoding("utf8").on("data", (text: string) => (said += text));
    assert.equal(await new Promise((resolve) => bot.once("close", resolve)), 1);
    assert.match(said, /^the bot has ended: .*\n$/);
  }
});

test("tabs have one connection, and go on when the leader is hidden or closed", hangs, async () => {
  const { Browser } = await import("./browser.js"); // which makes databases the default: this is the last test
  const [a = "", bob = ""] = names("alice", "bob");
  const b = new Browser(server, a);
  const one = await b.open("one", true);
  const two = await b.open("two", false);
  assert.equal(b.leader(), "one");
  await Promise.all([one.synced(), two.synced()]);
  const views = await Promise.all([one, two].map((c) => c.direct(bob).messages(50)));
  await (await two.direct(bob).sendText("from the tab that follows")).wait();
  const lines = ["from the tab that follows"];
  await Promise.all(views.map((v) => shows(v, lines)));

  const told = new Promise<string[]>((resolve) => one.on("list", (e) => resolve(e.conversations)));
  b.show("one", false);
  b.show("two", true);
  lines.push("while nobody leads");
  await one.direct(bob).sendText("while nobody leads");
  await Promise.all(views.map((v) => shows(v, lines)));
  assert.equal(b.leader(), "two");
  assert.ok((await told).includes(direct(a, bob)), "what may have been missed");

  await two.close();
  const began = performance.now();
  lines.push("after the leader is gone");
  const sent = await one.direct(bob).sendText("after the leader is gone");
  await sent.wait();
  console.log(`${Math.round(performance.now() - began)} ms from the leader's end to a message that the server has`);
  assert.equal(b.leader(), "one");
  await Promise.all(views.slice(0, 1).map((v) => shows(v, lines)));
  assert.deepEqual(await one.outbox(), []);
  await one.close();
  assert.equal(b.leader(), undefined);
});
