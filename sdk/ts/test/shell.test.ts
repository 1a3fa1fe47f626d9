import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type Batch } from "../src/engine/index.js";
import { type Client, type Event, Memory, type Options, PimError, type StateEvent } from "../src/index.js";
import { openIn } from "../src/client/client.js";
import { LocalSession } from "../src/client/local.js";
import { checkOptions } from "../src/client/options.js";
import { newOutgoing } from "../src/engine/types.js";
import { EntryKind, newClientMessageID } from "../src/pim/index.js";
import { Network, settled } from "./fakes.js";

// The shell around the engine, with a network and a clock of the test's own.

const bob = "d:alice:bob";
let net: Network;
let clients: Client[];

beforeEach(() => {
  net = new Network();
  clients = [];
});

afterEach(async () => {
  net.answer = () => undefined;
  for (const c of clients) {
    const closed = c.close();
    await net.clock.pass(1);
    await closed;
  }
});

async function opens(o: Partial<Options> = {}): Promise<Client> {
  const c = await net.open(o);
  clients.push(c);
  return c;
}

/** Returns the states that c comes to from now on. */
function statesOf(c: Client): StateEvent[] {
  const states: StateEvent[] = [];
  c.on("state", (e) => states.push(e));
  return states;
}

test("a connection that stands says Hello, and what is sent is acknowledged", async () => {
  const c = await opens();
  await net.clock.pass(1);
  assert.equal(c.state, "connected");
  await c.synced();
  const sending = await c.conversation(bob).sendText("hi");
  await net.clock.pass(1);
  assert.equal((await sending.wait()).seq, 1);
  assert.equal(net.frames("Hello")[0]?.token, "token");
});

test("a server that does not answer delays the connection by one step of the race, and is given up", async () => {
  net.holes.add("hole");
  const c = await opens({ server: "ws://hole", servers: ["ws://one"] });
  await net.clock.pass(2.4);
  assert.equal(c.state, "connecting");
  await net.clock.pass(0.2);
  assert.equal(c.state, "connected");
  assert.deepEqual(
    net.sockets.map((s) => [s.host, s.closed]),
    [
      ["hole", true],
      ["one", false],
    ],
  );
});

test("close gives up attempts that are under way", async () => {
  net.holes.add("one");
  const c = await opens();
  await settled();
  assert.equal(net.sockets.length, 1);
  await c.close();
  assert.equal(net.sockets[0]?.closed, true);
  assert.equal(c.state, "stopped");
  await assert.rejects(c.synced(), { kind: "unavailable", text: "the client is closed" });
});

test("a connection that stands while the store writes and the client is closed is given up", async () => {
  const store = new Memory();
  const apply = store.apply.bind(store);
  let write: (() => void) | undefined;
  let slow = false;
  store.apply = async (b) => {
    if (slow) {
      await new Promise<void>((resolve) => (write = resolve));
    }
    await apply(b);
  };
  const c = await opens({ store });
  slow = true;
  const sent = c.conversation(bob).sendText("x");
  await settled(); // the dial has its outcome, which waits for the store
  assert.equal(net.sockets[0]?.open, true);
  const closed = c.close();
  slow = false;
  write?.();
  await closed;
  await sent;
  assert.equal(net.sockets[0]?.closed, true);
});

test("a session whose store fails says that it is of no use any more, so a tab can let the lock go", async () => {
  const store = new Memory();
  const { webSocket, clock } = net;
  const o: Options = { server: "ws://one", insecure: true, token: "token", user: "alice", device: "phone", webSocket };
  const session = await LocalSession.open(checkOptions(o, { clock, random: () => 0.5 }), store, false);
  const told: string[] = [];
  session.onBroken((err) => told.push(err.kind));
  store.apply = () => Promise.reject(new PimError("disk_full", "no room"));
  const message = newOutgoing({ id: newClientMessageID(), conversation: bob, kind: EntryKind.message });
  await assert.rejects(session.do({ type: "send", message }), { kind: "disk_full" });
  assert.deepEqual(told, ["disk_full"]);
  await session.close();
});

test("an attempt ends after 15 s", async () => {
  net.holes.add("one");
  const c = await opens();
  const states = statesOf(c);
  await net.clock.pass(16);
  assert.match(String(states.find((s) => s.state === "waiting")?.err), /could be reached within 15 s/);
});

test("a close code says whether the client comes back", async () => {
  const c = await opens();
  await net.clock.pass(1);
  net.sockets[0]?.close(4000, "restart");
  await net.clock.pass(60);
  assert.equal(c.state, "connected");
  assert.equal(net.sockets.length, 2);
  await net.clock.pass(180); // so the device is not taken for one that has replaced itself
  net.sockets[1]?.close(4100, "replaced");
  await net.clock.pass(60);
  assert.equal(c.state, "stopped");
  assert.equal(c.stopped?.kind, "replaced");
  await assert.rejects(c.synced(), { kind: "replaced" });
  await c.reconnect();
  await net.clock.pass(60);
  assert.equal(c.state, "connected");
});

test("a frame that cannot be read, and a text message, end the connection", async () => {
  const c = await opens();
  const states = statesOf(c);
  for (const frame of [Uint8Array.of(2, 0xff).buffer, "text", new ArrayBuffer(0)]) {
    await net.clock.pass(60);
    assert.equal(c.state, "connected");
    const n = net.sockets.length;
    net.sockets.at(-1)?.comes(frame);
    await net.clock.pass(60);
    assert.equal(net.sockets.length, n + 1, String(frame));
    assert.equal(net.sockets[n - 1]?.closed, true);
  }
  assert.match(states.map((s) => String(s.err)).join(), /not a binary message/);
});

test("the app is asked for a token before every attempt, never twice at once, and not for longer than 10 s", async () => {
  let asked = 0;
  let asking = 0;
  let give: (token: string) => void = () => undefined;
  const c = await opens({
    servers: ["ws://two", "ws://three"],
    token: ({ signal }) => {
      asked++;
      asking++;
      assert.equal(asking, 1);
      return new Promise((resolve, reject) => {
        const end = (then: () => void): void => {
          asking--;
          then();
        };
        give = (token) => end(() => resolve(token));
        signal.addEventListener("abort", () => end(() => reject(signal.reason as Error)));
      });
    },
  });
  const states = statesOf(c);
  await net.clock.pass(9);
  assert.equal(asked, 1);
  await net.clock.pass(20);
  assert.match(String(states[0]?.err), /Options.token did not return one within 10 s/);
  give("good");
  await net.clock.pass(2);
  assert.equal(c.state, "connected");
  assert.equal(net.frames("Hello").at(-1)?.token, "good");
});

test("a token that is not to be had is told with its kind, and its retryAfter is heeded", async () => {
  let asked = 0;
  const c = await opens({
    token: () => {
      asked++;
      throw new PimError("unauthorized", "signed out", { retryAfter: 50_000 });
    },
  });
  const states = statesOf(c);
  await net.clock.pass(49);
  assert.equal(asked, 1);
  assert.equal(c.state, "waiting");
  const err = states.at(-1)?.err;
  assert.ok(err instanceof PimError);
  assert.equal(err.kind, "unauthorized");
  assert.match(err.message, /no token: signed out/);
  await net.clock.pass(60);
  assert.ok(asked > 1);
  for (const token of ["", "x".repeat(9000), "\ud800"]) {
    const refused = await opens({ token, device: `d${token.length}` });
    const states = statesOf(refused);
    await net.clock.pass(1);
    assert.match(String(states.at(-1)?.err), /empty token|9000 bytes|not Unicode/);
  }
});

test("nobody tells the client that the device has slept: it finds out within 10 s of waking up", async () => {
  await opens();
  await net.clock.pass(30);
  assert.equal(net.frames("PIMPing").length, 0);
  net.clock.sleep(3600);
  await net.clock.pass(10);
  assert.equal(net.frames("PIMPing").length, 1);
});

test("messages that take longer to be transmitted than any timeout are transmitted once, over one connection", async () => {
  const c = await opens();
  await net.clock.pass(1);
  net.slow = true;
  net.answer = () => undefined;
  const all = [];
  for (let i = 0; i < 4; i++) {
    all.push(await c.conversation(bob).send(new Uint8Array(60_000)));
  }
  const [socket] = net.sockets;
  assert.ok(socket);
  for (let i = 0; i < 120; i++) {
    // 2 kB a second
    await net.clock.pass(1);
    socket.bufferedAmount = Math.max(0, socket.bufferedAmount - 2000);
  }
  assert.equal(socket.closed, false);
  net.slow = false;
  net.answer = (frame, on) => net.answers(frame, on);
  net.said.filter((f) => f.type === "PIMSendReq").forEach((f) => net.answers(f, socket));
  await net.clock.pass(1);
  assert.equal((await all[3]?.wait())?.seq, 4);
  assert.equal(net.frames("PIMSendReq").length, 4);
  assert.equal(net.sockets.length, 1);
});

test("a network that takes nothing for 10 s ends the connection", async () => {
  const c = await opens();
  await net.clock.pass(1);
  const states = statesOf(c);
  net.slow = true;
  await c.conversation(bob).sendText("hi");
  await net.clock.pass(9);
  assert.equal(c.state, "connected");
  await net.clock.pass(3);
  assert.match(String(states[0]?.err), /takes nothing/);
  net.slow = false;
  await net.clock.pass(60);
  assert.equal(c.state, "connected");
});

test("a call for a token that never ends delays the next one by 10 s, and no more", async () => {
  let calls = 0;
  const token = (): Promise<string> => (++calls === 1 ? new Promise(() => undefined) : Promise.resolve("token"));
  const c = await opens({ token });
  await net.clock.pass(40);
  assert.ok(calls > 1);
  assert.equal(c.state, "connected");
});

test("a connection that is ended here is told at once, though the network never says that it has ended", async () => {
  const c = await opens();
  await net.clock.pass(1);
  const [socket] = net.sockets;
  assert.ok(socket);
  socket.close = () => undefined;
  const states = statesOf(c);
  net.slow = true;
  await c.conversation(bob).sendText("hi");
  await net.clock.pass(5);
  await c.conversation(bob).sendText("again"); // the loop would look at the connection 10 s after that
  await net.clock.pass(5.5);
  assert.match(String(states[0]?.err), /takes nothing/);
});

test("while the app does not take its events nothing is read from the network, and then all comes", async () => {
  const c = await opens();
  await net.clock.pass(1);
  const events = c.events({ buffer: 3 });
  const [socket] = net.sockets;
  const push = (seq: number): void => {
    const entry = {
      seq,
      count: seq,
      kind: 1,
      sender: "bob",
      device: "b",
      clientMessageId: new Uint8Array(16).fill(seq),
      serverMs: seq,
    };
    socket?.say({ type: "PIMPush", body: { conversation: bob, entries: [entry] } });
  };
  for (let seq = 1; seq <= 20; seq++) {
    push(seq);
    await settled();
  }
  const stored = async (): Promise<number> => (await c.conversation(bob).entries(100)).length;
  assert.ok((await stored()) < 20);
  await net.clock.pass(300); // no answer counts as missing
  assert.equal(c.state, "connected");
  const seqs: number[] = [];
  while (seqs.length < 20) {
    const { value } = (await events.next()) as { value: Event };
    if (value.type === "entry") {
      seqs.push(value.entry.seq);
    }
  }
  assert.deepEqual(
    seqs,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  assert.equal(await stored(), 20);
  await events.return?.();
  // More than the app may ever be behind: the connection ends, and the server keeps what has not come.
  const more = c.events({ buffer: 0 });
  push(21);
  push(22);
  await settled();
  const large = new Uint8Array(200_000);
  large[0] = 99; // a type of a later version
  for (let i = 0; i < 50; i++) {
    socket?.comes(large.slice().buffer);
  }
  await settled();
  assert.equal(socket?.closed, true);
  await more.return?.();
});

/** A store that tells when it was asked to apply, and waits. */
class SlowStore extends Memory {
  readonly batches: Batch[] = [];
  fail: Error | undefined;
  gate: Promise<void> | undefined;

  override async apply(b: Batch): Promise<void> {
    await this.gate;
    if (this.fail) {
      throw this.fail;
    }
    this.batches.push(b);
    await super.apply(b);
  }
}

test("what comes while the store is at work waits in order, and is stored together", async () => {
  const store = new SlowStore();
  const c = await opens({ store });
  await net.clock.pass(1);
  let open: () => void = () => undefined;
  store.gate = new Promise((resolve) => (open = resolve));
  const sends = Array.from({ length: 10 }, (_, i) => c.conversation(bob).sendText(String(i)));
  await net.clock.pass(1);
  assert.equal(net.frames("PIMSendReq").length, 0, "transmitted before it was stored");
  const before = store.batches.length;
  open();
  await Promise.all(sends);
  const all = store.batches.slice(before).flatMap((b) => b.outbox.map((m) => m.number));
  assert.ok(store.batches.length - before <= 6, `${store.batches.length - before} transactions`);
  assert.deepEqual([...new Set(all)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await net.clock.pass(1);
  assert.equal(net.frames("PIMSendReq").length, 10);
});

test("a store that fails stops the client, and every call says so", async () => {
  const store = new SlowStore();
  const c = await opens({ store });
  await net.clock.pass(1);
  const sending = await c.conversation(bob).sendText("one");
  const page = c.conversation(bob).pull(); // it is not answered
  await settled();
  store.fail = new PimError("disk_full", "no room");
  const failed = { kind: "disk_full", text: /the local store failed: no room/ };
  await assert.rejects(c.conversation(bob).sendText("two"), failed);
  await assert.rejects(page, failed);
  await assert.rejects(c.conversations(), failed);
  assert.equal(c.state, "stopped");
  assert.equal(c.stopped?.kind, "disk_full");
  assert.equal(net.sockets[0]?.closed, true);
  await sending.wait(); // it was answered before
});

test("what a listener throws breaks nothing", async () => {
  const thrown: unknown[] = [];
  const catches = (err: unknown): void => void thrown.push(err);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", catches);
  try {
    const c = await opens();
    c.on("state", () => {
      throw new Error("mine");
    });
    await net.clock.pass(1);
    assert.equal(c.state, "connected");
    assert.match(String(thrown[0]), /mine/);
  } finally {
    process.off("uncaughtException", catches);
    others.forEach((l) => process.on("uncaughtException", l));
  }
});

test("open refuses options that are not valid", async () => {
  const good: Options = { server: "ws://127.0.0.1:1", token: "t", device: "phone", webSocket: class {} as never };
  const cases: [Partial<Options>, RegExp][] = [
    [{ token: undefined as never }, /Options.token is neither/],
    [{ device: "" }, /device ID is empty/],
    [{ user: "a/b" }, /user ID/],
    [{ confirm: true }, /Options.confirm needs a store/],
    [{ peek: true, watch: true }, /Options.peek goes with neither/],
    [{ agent: "x".repeat(129) }, /Options.agent has 129 bytes/],
    [{ backoffMin: -1 }, /a negative duration/],
    [{ server: "" }, /Options.server and servers are empty/],
    [{ server: "nonsense" }, /is not a URL/],
    [{ server: "localhost:7400" }, /has no host/],
    [{ server: "ftp://x" }, /scheme "ftp" is none of/],
    [{ server: "tcp://x:1" }, /needs Node/],
    [{ server: "tcp://x" }, /has no port/],
    [{ server: "http://example.com" }, /unencrypted to http:\/\/example.com/],
    [{ server: "ws://127.0.0.1.example.com" }, /unencrypted/],
    [{ servers: ["ws://[::2]"] }, /unencrypted/],
  ];
  for (const [o, want] of cases) {
    await assert.rejects(openIn({}, { ...good, ...o }), want, JSON.stringify(o));
  }
  for (const server of ["http://localhost:1", "ws://[::1]:1", "ws://[::ffff:127.0.0.1]:1", "https://example.com/path"]) {
    net.holes.add(new URL(server).hostname);
    await opens({ server, insecure: false });
  }
});

test("a WebSocket's URL is that of the server, and where it upgrades", async () => {
  const urls: string[] = [];
  class Noted {
    constructor(url: string) {
      urls.push(url);
      throw new PimError("unavailable", "noted");
    }
  }
  for (const server of ["http://localhost:1", "https://example.com/a/", "wss://example.com/a?x=1"]) {
    await opens({ server, insecure: false, webSocket: Noted as never });
    await settled();
  }
  assert.deepEqual(urls, ["ws://localhost:1/v1/ws", "wss://example.com/a/v1/ws", "wss://example.com/a/v1/ws?x=1"]);
});
