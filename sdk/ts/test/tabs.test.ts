import assert from "node:assert/strict";
import { test } from "node:test";
import { Core } from "../src/client/core.js";
import { Client } from "../src/client/client.js";
import { type AppInput, type Session } from "../src/client/session.js";
import { kindOf, PimError } from "../src/pim/index.js";
import { type Envelope, pack, protocol, unpack } from "../src/tabs/channel.js";
import { Leader } from "../src/tabs/leader.js";
import { type Sending, type View } from "../src/index.js";
import { type Led } from "../src/tabs/environment.js";
import { type Says, saysNothing } from "../src/tabs/says.js";
import { TabSession } from "../src/tabs/tabs.js";
import { firstSeed, Random } from "./random.js";
import { World } from "./tabworld.js";

/** A tab with a client. */
class Tab {
  readonly id: string;
  readonly client: Client;
  readonly view: View;

  private constructor(id: string, client: Client, view: View) {
    this.id = id;
    this.client = client;
    this.view = view;
  }

  /** Opens a tab; undefined if it is killed before it is open. */
  static async open(w: World, id: string): Promise<Tab> {
    const session = await TabSession.open("pim:alice:browser", w.env(id), () => w.lead(id));
    const client = new Client(await Core.start(session, "browser"));
    return new Tab(id, client, await client.direct("bob").messages(1000));
  }

  lines(): string[] {
    return this.view.items().map((m) => m.text() + (m.pending() ? " pending" : ""));
  }
}

/** What has happened in schedules. */
interface Total {
  sends: number;
  accepted: number;
  heard: number;
  unheard: number;
  leaders: number;
  killed: number;
  lost: number;
}

/**
 * Plays the random schedule of a seed, and checks in the end what the tabs show. lossy: a third of the updates is lost and a
 * tenth of what else tabs say to each other, and tabs stand still for a while.
 */
async function play(seed: number, lossy: boolean, w: World, total: Total): Promise<void> {
  const { r } = w;
  w.loses = ({ type }) => {
    const loses = lossy && r.below(type === "update" ? 3 : 10) === 0;
    total.lost += loses ? 1 : 0;
    return loses;
  };
  const frozen = new Set<string>();
  const tabs = new Map<string, Tab>();
  const accepted: string[] = [];
  const opening: Promise<unknown>[] = [];
  const waiting = new Map<Sending, string>();
  const failures: unknown[] = [];
  let opened = 0;
  const open = (): void => {
    const id = `t${++opened}`;
    w.show(id, r.below(2) === 0);
    const tab = Tab.open(w, id);
    const known = tab.then(
      (t) => void tabs.set(id, t),
      (err: unknown) => failures.push(err),
    );
    opening.push(known);
  };
  const send = (tab: Tab): void => {
    const text = `${tab.id} ${++total.sends}`;
    tab.client
      .direct("bob")
      .sendText(text)
      .then(
        (sending) => {
          accepted.push(text);
          waiting.set(sending, tab.id);
          sending.wait().then(
            () => {
              waiting.delete(sending);
              total.heard++;
            },
            (err: unknown) => {
              waiting.delete(sending);
              total.unheard++;
              const sent =
                kindOf(err) === "unknown" && !w.outbox.has(sending.id) && w.log.some((e) => e.clientID === sending.id);
              if (!w.forgets || !sent) {
                w.isDead(tab.id) || failures.push(err);
              }
            },
          );
        },
        (err: unknown) => w.isDead(tab.id) || failures.push(err),
      );
  };
  open();
  for (let step = 0; step < 150; step++) {
    const living = [...tabs.values()].filter((t) => !w.isDead(t.id));
    const what = r.below(100);
    if (what < 4 && opened < 6) {
      open();
    } else if (what < 8 && opened > 1) {
      const id = `t${1 + r.below(opened)}`;
      total.killed += w.isDead(id) ? 0 : 1;
      w.kill(id);
    } else if (what < 14) {
      const id = `t${1 + r.below(opened)}`;
      w.show(id, r.below(2) === 0);
    } else if (what < 18 && lossy) {
      const id = `t${1 + r.below(opened)}`;
      w.freeze(id, !frozen.has(id));
      if (!frozen.delete(id)) {
        frozen.add(id);
      }
    } else if (what < 26 && lossy) {
      w.doubt(`t${1 + r.below(opened)}`);
    } else if (what < 40 && living.length > 0) {
      send(r.pick(living));
    } else {
      await w.step();
    }
  }
  w.show("last", true);
  const leads = w.leader();
  if (leads !== undefined && r.below(2) === 0) {
    w.show(leads, true); // then it goes on leading, and what was missed is not read because of another leader
  }
  frozen.forEach((id) => w.freeze(id, false));
  const losesUpdates = w.loses;
  w.loses = (said, to) => said.type === "update" && losesUpdates(said, to);
  const last = Tab.open(w, "last");
  const doubt = (): void => ["last", ...tabs.keys()].forEach((id) => w.doubt(id));
  for (let t: Tab | undefined, steps = 0; t === undefined; steps++) {
    await w.step();
    if (steps % 500 === 499) {
      doubt();
    }
    void last.then((tab) => (t = tab));
    await w.settle();
    assert.deepEqual(failures, [], `seed ${seed}`);
  }
  tabs.set("last", await last);
  await w.drain();
  w.loses = () => false;
  for (let round = 0; round < 4; round++) {
    doubt(); // what was lost is asked again
    await w.drain();
  }
  const ids = w.log.map((e) => e.clientID);
  const said = w.texts();
  assert.equal(new Set(ids).size, ids.length, `seed ${seed}: an entry twice`);
  assert.deepEqual(
    accepted.filter((text) => said.filter((other) => other === text).length !== 1),
    [],
    `seed ${seed}: accepted, and not there once`,
  );
  for (const tab of tabs.values()) {
    if (!w.isDead(tab.id)) {
      assert.deepEqual(tab.lines(), said, `seed ${seed}: what ${tab.id} shows`);
    }
  }
  assert.deepEqual(failures, [], `seed ${seed}`);
  const unsettled = [...waiting.values()].filter((id) => !w.isDead(id));
  assert.deepEqual(unsettled, [], `seed ${seed}: tabs whose messages were sent wait for that`);
  assert.equal(w.mostLeaders, 1, `seed ${seed}: leaders at a time`);
  const leader = w.leader();
  assert.ok(leader !== undefined && w.isVisible(leader), `seed ${seed}: ${leader} leads, and is hidden`);
  total.accepted += accepted.length;
  total.leaders += w.leaders;
  const closing = Promise.all([...tabs.values()].filter((t) => !w.isDead(t.id)).map((t) => t.client.close()));
  let closed = false;
  void closing.then(() => (closed = true));
  while (!closed) {
    await w.step();
  }
  assert.equal(w.leader(), undefined);
}

/** Plays n random schedules, every second one lossy, and counts what has happened. change is made to each world before. */
async function playAll(n: number, change: (w: World) => void = () => undefined): Promise<Total> {
  const seed = firstSeed();
  const total = { sends: 0, accepted: 0, heard: 0, unheard: 0, leaders: 0, killed: 0, lost: 0 };
  for (let i = 0; i < n; i++) {
    const w = new World(new Random(seed + i));
    change(w);
    await play(seed + i, i % 2 === 1, w, total);
  }
  return total;
}

test("random tabs: opened, killed, shown and hidden while all of them send", { timeout: 600_000 }, async () => {
  const schedules = Number(process.env["PIM_SCHEDULES"] ?? 40);
  console.log(JSON.stringify({ schedules, ...(await playAll(schedules)) }));
});

test("random tabs whose store does not say what became of messages hear that some were sent or discarded", async () => {
  const { unheard } = await playAll(100, (w) => (w.forgets = true));
  assert.ok(unheard > 0);
});

test("random tabs that do not notice lost updates are found out", { timeout: 600_000 }, async () => {
  await assert.rejects(
    playAll(200, (w) => (w.uncounted = true)),
    /: (what \w+ shows|tabs whose messages were sent wait for that)/,
  );
});

/** Returns a session that notes what it is given, and a leader with it. */
function leading(): { leader: Leader; given: string[] } {
  const given: string[] = [];
  const session = {
    do: async (input: AppInput) => {
      const { type, ...rest } = input;
      given.push([type, ...Object.values(rest).flat()].join(" "));
    },
    hold: () => undefined,
  } as unknown as Session;
  return { leader: new Leader(session), given };
}

test("what tabs say of themselves becomes one device", async () => {
  const { leader, given } = leading();
  const say = async (tab: string, says: Partial<Says>): Promise<string[]> => {
    await leader.run(tab, { method: "say", args: [{ ...saysNothing(), ...says }] });
    return given.splice(0);
  };
  const a = { reading: ["g:a"], open: "g:a", look: { conversations: ["g:a"], users: ["bob"] } };
  const b = { reading: ["g:b"], open: "g:b", look: { conversations: ["g:b"], users: ["bob"] } };
  assert.deepEqual(await say("a", {}), []);
  assert.deepEqual(await say("a", { foreground: true, ...a }), [
    "reading g:a true",
    "foreground true",
    "open g:a",
    "look g:a bob",
  ]);
  assert.deepEqual(await say("b", b), [], "a tab that nobody looks at");
  assert.deepEqual(await say("a", a), ["foreground false", "reading g:b true", "look g:a g:b bob"], "nobody looks");
  assert.deepEqual(await say("b", { ...b, foreground: true }), [
    "reading g:a false",
    "foreground true",
    "open g:b",
    "look g:b bob",
  ]);
  assert.deepEqual(await say("a", { ...a, online: false }), []);
  assert.deepEqual(await say("b", { ...b, online: false }), [
    "foreground false",
    "reading g:a true",
    "look g:b g:a bob",
    "online false",
  ]);
  leader.drop("b");
  await leader.run("c", { method: "say", args: [saysNothing()] });
  assert.deepEqual(given.splice(0), ["reading g:b false", "open g:a", "look g:a bob", "online true"]);
  const changed: AppInput = { type: "networkChanged", name: "wifi" };
  await Promise.all(["a", "c"].map((tab) => leader.run(tab, { method: "do", args: [changed] })));
  assert.deepEqual(given.splice(0), ["networkChanged wifi"], "all tabs hear of a network, once is enough");
});

test("errors cross, with their kinds", () => {
  const err = new PimError("overloaded", "later", { op: "send", retryAfter: 7 });
  const payload = Uint8Array.of(1, 2);
  const value = { event: { type: "send", err }, list: [1, { err }], payload, none: undefined };
  const crossed = unpack(structuredClone(pack(value))) as typeof value;
  assert.deepEqual(crossed, value);
  assert.ok(crossed.event.err instanceof PimError);
  assert.equal(crossed.event.err.retryAfter, 7);
  const plain = { payload, list: [{ a: 1 }] };
  assert.equal(pack(plain), plain, "what has no error is not copied");
  assert.equal(kindOf(unpack(pack(new Error("x")))), "unknown");
});

/** Steps w until p is settled, and returns what it has come to, or the kind of its error. */
async function settled(w: World, p: Promise<unknown>): Promise<unknown> {
  let done: { is: unknown } | undefined;
  p.then(
    (is) => (done = { is }),
    (err: unknown) => (done = { is: kindOf(err) }),
  );
  while (done === undefined) {
    await w.step();
  }
  return done.is;
}

test("a tab of an older version makes way for a newer one, and says so", async () => {
  const w = new World(new Random(1));
  const old = Tab.open(w, "old");
  await settled(w, old);
  const { client } = await old;
  const errors: unknown[] = [];
  client.on("state", (e) => errors.push(e.state, kindOf(e.err)));
  const newer = w.env("newer").channel("");
  newer.postMessage({ v: protocol + 1, from: "newer", to: "", epoch: 0, updates: 0, said: { type: "who" } });
  await w.drain();
  assert.deepEqual(errors, ["stopped", "unsupported"]);
  assert.equal(client.stopped?.kind, "unsupported");
  assert.equal(w.leader(), undefined, "the newer one can lead");
  assert.equal(await settled(w, client.direct("bob").sendText("x")), "unsupported");
  await settled(w, client.close());
});

test("a tab that cannot open the store says why, and leaves it to others", async () => {
  const w = new World(new Random(2));
  const fails = (): Promise<Led> => Promise.reject(new PimError("disk_full", "no room"));
  assert.equal(await settled(w, TabSession.open("pim:alice:browser", w.env("a"), fails)), "disk_full");
  const b = Tab.open(w, "b");
  await settled(w, b);
  assert.equal(w.leader(), "b");
  await settled(w, (await b).client.close());
});

test("a tab whose store is lost while it leads hands over, and calls that wait are refused", async () => {
  const w = new World(new Random(3));
  let lose: (err: PimError) => void = () => undefined;
  const lead = async (): Promise<Led> => ({ ...(await w.lead("a")), onLost: (on) => (lose = on) });
  const opened = TabSession.open("pim:alice:browser", w.env("a"), lead);
  await settled(w, opened);
  const session = await opened;
  const b = Tab.open(w, "b");
  await settled(w, b);
  assert.equal(w.leader(), "a");
  const call = session.start();
  lose(new PimError("not_found", "the browser has deleted the database"));
  assert.equal(await settled(w, call), "not_found");
  await w.drain();
  assert.equal(w.leader(), "b");
  await settled(w, Promise.all([session.close(), (await b).client.close()]));
});

test("a question that is aborted is given up where it is asked", async () => {
  const w = new World(new Random(4));
  const a = Tab.open(w, "a");
  await settled(w, a);
  const b = TabSession.open("pim:alice:browser", w.env("b"), () => w.lead("b"));
  await settled(w, b);
  const abort = new AbortController();
  const asked = (await b).ask({ type: "askMembers", conversation: "g:x", after: "" }, abort.signal);
  await w.drain();
  assert.equal(w.asked.length, 1);
  assert.equal(w.asked[0]?.aborted, false);
  abort.abort(new PimError("timeout", "too long"));
  assert.equal(await settled(w, asked), "timeout");
  await w.drain();
  assert.equal(w.asked[0]?.aborted, true);
  await settled(w, Promise.all([(await a).client.close(), (await b).close()]));
});

test("a call that the leader has not heard, or whose answer was lost, is asked again and done once", async () => {
  const w = new World(new Random(5));
  const a = Tab.open(w, "a");
  await settled(w, a);
  const b = Tab.open(w, "b");
  await settled(w, b);
  const { client } = await b;
  for (const lost of ["call", "answer"]) {
    w.loses = ({ type }) => type === lost;
    const accepted: Sending[] = [];
    void client
      .direct("bob")
      .sendText(lost)
      .then((s) => accepted.push(s));
    await w.drain();
    assert.equal(accepted.length, 0);
    w.loses = () => false;
    for (let i = 0; i < 2; i++) {
      w.doubt("b");
      await w.drain();
    }
    const [sending] = accepted;
    assert.ok(sending);
    await settled(w, sending.wait());
  }
  assert.deepEqual(w.texts(), ["call", "answer"]);
  assert.equal(w.sends, 2, "the leader was given each message once");
  assert.equal(w.leader(), "a");
  await settled(w, Promise.all([(await a).client.close(), client.close()]));
});

test("a tab that has missed an update shows what the others show", async () => {
  const w = new World(new Random(11));
  w.show("a", true);
  const a = Tab.open(w, "a");
  await settled(w, a);
  const b = Tab.open(w, "b");
  await settled(w, b);
  const said: string[] = [];
  const ways: [string, () => void][] = [
    ["the next update tells", () => void a.then((t) => t.client.direct("bob").sendText(said[said.push("next") - 1] ?? ""))],
    ["the leader says how many there were", () => w.doubt("a")],
    ["a person looks at it", () => w.show("b", true)], // and at a, which so goes on leading
  ];
  for (const [way, then] of ways) {
    w.loses = ({ type }) => type === "update";
    said.push(way);
    const sending = (await a).client.direct("bob").sendText(way);
    await settled(w, sending);
    await settled(w, (await sending).wait());
    await w.drain();
    assert.notDeepEqual((await b).lines(), said, "it was lost");
    w.loses = () => false;
    then();
    await w.drain();
    assert.deepEqual((await b).lines(), said, way);
    assert.equal(w.leader(), "a");
    w.doubt("a"); // what it wants to say is said
    await w.drain();
  }
  await settled(w, Promise.all([(await a).client.close(), (await b).client.close()]));
});

test("a tab that has missed that its message was sent is told when it finds out that it has missed something", async () => {
  const w = new World(new Random(12));
  w.show("a", true);
  const a = Tab.open(w, "a");
  await settled(w, a);
  const b = Tab.open(w, "b");
  await settled(w, b);
  w.loses = ({ type }) => type === "update";
  const queued = (await b).client.direct("bob").sendText("hi");
  await settled(w, queued);
  await w.drain();
  const sending = await queued;
  const [stored] = w.log.filter((e) => e.clientID === sending.id);
  assert.ok(stored, "it was sent");
  w.loses = () => false;
  w.doubt("a");
  await w.drain();
  assert.equal((await sending.wait()).seq, stored.seq);
  await settled(w, Promise.all([(await a).client.close(), (await b).client.close()]));
});

test("a tab that has missed which tab leads now hears it with the next update, or soon", async () => {
  const w = new World(new Random(12));
  const opened = (id: string): Promise<Tab> => Tab.open(w, id);
  const tabs = [opened("a"), opened("b"), opened("c"), opened("d")];
  await settled(w, Promise.all(tabs));
  const living = async (): Promise<Tab[]> => (await Promise.all(tabs)).filter((t) => !w.isDead(t.id));
  const takeOver = async (): Promise<Tab> => {
    w.kill(w.leader() ?? "");
    await w.drain();
    const leads = (await living()).find((t) => t.id === w.leader());
    assert.ok(leads);
    return leads;
  };
  let deaf: string | undefined;
  w.loses = ({ type }, to) => type === "leads" && !w.isDead(to) && to === (deaf ??= to);
  const leads = await takeOver();
  w.loses = () => false;
  void leads.client.direct("bob").sendText("x");
  await w.drain();
  for (const tab of await living()) {
    assert.deepEqual(tab.lines(), ["x"], `${tab.id}, ${deaf} is deaf`);
  }
  w.loses = ({ type }) => type === "leads";
  const last = await takeOver(); // nobody hears it, so nobody asks, and it has nobody to tell updates
  w.loses = () => false;
  await settled(w, last.client.direct("bob").sendText("y"));
  await w.drain();
  w.doubt(last.id);
  await w.drain();
  for (const tab of await living()) {
    assert.deepEqual(tab.lines(), ["x", "y"], tab.id);
  }
  await settled(w, Promise.all((await living()).map((t) => t.client.close())));
});

test("a leader that stands still is robbed, and follows when it goes on", async () => {
  const w = new World(new Random(6));
  const a = Tab.open(w, "a");
  await settled(w, a);
  const b = Tab.open(w, "b");
  await settled(w, b);
  const [left, right] = [(await a).client, (await b).client];
  w.freeze("a", true);
  const sending = right.direct("bob").sendText("x");
  for (let i = 0; i < 6; i++) {
    w.doubt("b");
    await w.drain();
  }
  await settled(w, (await sending).wait());
  assert.equal(w.leader(), "b");
  w.freeze("a", false);
  await w.drain();
  assert.equal(w.leader(), "b");
  assert.equal(left.stopped, undefined);
  const other = left.direct("bob").sendText("y");
  await settled(w, other);
  await settled(w, (await other).wait());
  assert.deepEqual(w.texts(), ["x", "y"]);
  assert.deepEqual((await a).lines(), ["x", "y"]);
  assert.deepEqual((await b).lines(), ["x", "y"]);
  await settled(w, Promise.all([left.close(), right.close()]));
});

test("a tab that has missed which tab leads asks once, however many updates come before it hears that", async () => {
  const w = new World(new Random(13));
  const tabs = ["a", "b", "c", "d"].map((id) => Tab.open(w, id));
  await settled(w, Promise.all(tabs));
  w.kill(w.leader() ?? "");
  let deaf: string | undefined;
  let asked = 0;
  w.loses = ({ type }, to) => {
    asked += Number(type === "who" && !w.isDead(to));
    return type === "leads" && !w.isDead(to) && to === (deaf ??= to);
  };
  await w.drain();
  const living = (await Promise.all(tabs)).filter((t) => !w.isDead(t.id));
  const leads = living.find((t) => t.id === w.leader());
  assert.ok(leads);
  asked = 0;
  for (const text of ["x", "y", "z"]) {
    await settled(w, leads.client.direct("bob").sendText(text));
    await w.drain();
  }
  assert.equal(asked, 2, "one question to two other tabs");
  w.loses = () => false;
  w.doubt(leads.id);
  await w.drain();
  for (const tab of living) {
    assert.deepEqual(tab.lines(), ["x", "y", "z"], `${tab.id}, ${deaf} was deaf`);
  }
  await settled(w, Promise.all(living.map((t) => t.client.close())));
});

test("when the database was deleted, all tabs that knew it say so", async () => {
  const w = new World(new Random(7));
  const opened = (id: string): Promise<Tab> => Tab.open(w, id);
  const a = opened("a");
  await settled(w, a);
  const b = opened("b");
  await settled(w, b);
  const { client } = await b;
  w.kill("a");
  w.term = 0; // as of a new one
  await w.drain();
  assert.equal(client.stopped?.kind, "not_found");
  const c = opened("c");
  await settled(w, c);
  assert.equal(w.leader(), "c");
  assert.equal((await c).client.stopped, undefined);
  await settled(w, Promise.all([client.close(), (await c).client.close()]));
});

test("a tab of an older version that is opened beside a newer one is told", async () => {
  const w = new World(new Random(8));
  const a = Tab.open(w, "a");
  await settled(w, a);
  const heard: number[] = [];
  const old = w.env("old").channel("");
  old.onmessage = ({ data }) => heard.push((data as Envelope).v);
  old.postMessage({ v: protocol - 1, from: "old", to: "", epoch: 0, updates: 0, said: { type: "who" } });
  await w.drain();
  assert.deepEqual(heard, [protocol]);
  await settled(w, (await a).client.close());
});

test("a store that fails is opened again, once", async () => {
  const w = new World(new Random(9));
  let lose: (err: PimError) => void = () => undefined;
  const lead = async (): Promise<Led> => {
    const led = await w.lead("a");
    return { ...led, onLost: (on) => (lose = on) };
  };
  const opened = TabSession.open("pim:alice:browser", w.env("a"), lead);
  await settled(w, opened);
  const session = await opened;
  const call = session.outbox("");
  lose(new PimError("unavailable", "Connection to Indexed Database server lost"));
  assert.deepEqual(await settled(w, call), []);
  assert.equal(w.leaders, 2);
  lose(new PimError("unavailable", "Connection to Indexed Database server lost"));
  await w.drain();
  assert.equal(w.leader(), undefined, "it lets the lock go");
  assert.equal(await settled(w, session.outbox("")), "unavailable");
  await settled(w, session.close());
});
