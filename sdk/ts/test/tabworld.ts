// A browser with tabs for tests: locks, a channel and a device's store with its server, in an order that a seed decides.
import assert from "node:assert/strict";
import { textOf } from "../src/client/message.js";
import { type Pending } from "../src/engine/index.js";
import { type SendEvent } from "../src/client/events.js";
import { type Session, type Update } from "../src/client/session.js";
import { type ClientMessageID, type Entry, PimError } from "../src/pim/index.js";
import { type Envelope, type Said } from "../src/tabs/channel.js";
import { type Channel, type Led, type TabsEnvironment } from "../src/tabs/environment.js";
import { type Random } from "./random.js";
import { entry } from "./storemodel.js";
import { WebLocks } from "./weblocks.js";

const direct = "d:alice:bob";

export class World {
  readonly r: Random;
  readonly locks = new WebLocks();
  /** The server's log, which the store of a leader follows. */
  readonly log: Entry[] = [];
  readonly outbox = new Map<ClientMessageID, Pending>();
  /** What the store says of the messages that have left the outbox. */
  readonly ended: SendEvent[] = [];
  /** The store is that of an earlier version, which says nothing of them. */
  forgets = false;
  /** The signals of the questions that leaders were asked. */
  readonly asked: AbortSignal[] = [];
  /** How many tabs have led, and how many at a time at most. */
  leaders = 0;
  /** How many sends leaders were given. */
  sends = 0;
  mostLeaders = 0;
  readonly #leading = new Set<string>();
  readonly #dead = new Set<string>();
  readonly #visible = new Set<string>();
  readonly #listeners = new Map<string, () => void>();
  readonly #channels = new Map<string, Channel>();
  readonly #lanes = new Map<string, (() => void)[]>(); // what happens next, in order within each lane

  /** The term of the last leader that has claimed the store, which refuses what those before it write. */
  term = 0;
  /** Reports whether a message to a tab is lost. */
  loses: (said: Said, to: string) => boolean = () => false;
  /** Tabs are broken: whatever they hear, they find no update missing. */
  uncounted = false;
  readonly #counted = new Map<string, number>(); // updates that a tab has heard of a leader, if uncounted
  readonly #frozen = new Set<string>();
  readonly #silences = new Map<string, () => void>();

  constructor(r: Random) {
    this.r = r;
    this.locks.later = (tab, f) => this.#later(`${tab} locks`, f);
  }

  /** Stops a tab, or has it go on: nothing happens in it meanwhile. */
  freeze(tab: string, on: boolean): void {
    if (on) {
      this.#frozen.add(tab);
    } else {
      this.#frozen.delete(tab);
    }
  }

  /** Lets the time pass after which a tab doubts that its calls were heard. */
  doubt(tab: string): void {
    const then = this.#silences.get(tab);
    if (!this.isDead(tab) && !this.#frozen.has(tab)) {
      this.#silences.delete(tab);
      then?.();
    }
  }

  #steps = 0;

  /** Has one thing happen, and waits for what follows from it at once. */
  async step(): Promise<void> {
    assert.ok(++this.#steps < 20_000, "it does not come to an end");
    const lanes = this.#open();
    if (lanes.length > 0) {
      const lane = this.r.pick(lanes);
      const list = this.#lanes.get(lane) ?? [];
      list.shift()?.();
      if (list.length === 0) {
        this.#lanes.delete(lane);
      }
    }
    await this.settle();
  }

  settle(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Has everything happen. */
  async drain(): Promise<void> {
    await this.settle();
    while (this.#open().length > 0) {
      await this.step();
    }
  }

  /** Returns the lanes in which something can happen. What a stopped tab does and hears waits. */
  #open(): string[] {
    const stopped = (lane: string): boolean => this.#frozen.has(lane.split(/[ >]/).at(lane.includes(">") ? 1 : 0) ?? "");
    return [...this.#lanes.keys()].filter((lane) => !stopped(lane));
  }

  #later(lane: string, f: () => void): void {
    this.#lanes.set(lane, [...(this.#lanes.get(lane) ?? []), f]);
  }

  /** Resolves later, and never in a dead tab. */
  pause(tab: string): Promise<void> {
    return new Promise((resolve) => this.#later(`${tab} ${this.r.below(1000)}`, () => this.isDead(tab) || resolve()));
  }

  kill(tab: string): void {
    this.#dead.add(tab);
    this.#leading.delete(tab);
    this.locks.kill(tab);
  }

  isDead(tab: string): boolean {
    return this.#dead.has(tab);
  }

  show(tab: string, on: boolean): void {
    if (on) {
      this.#visible.add(tab);
    } else {
      this.#visible.delete(tab);
    }
    if (!this.isDead(tab)) {
      this.#listeners.get(tab)?.();
    }
  }

  isVisible(tab: string): boolean {
    return this.#visible.has(tab);
  }

  leader(): string | undefined {
    return [...this.#leading][0];
  }

  texts(): string[] {
    return this.log.map((e) => textOf(e.payload, false));
  }

  env(tab: string): TabsEnvironment {
    return {
      locks: this.locks.of(tab),
      channel: () => this.#channel(tab),
      visible: () => this.isVisible(tab),
      onVisible: (on) => {
        this.#listeners.set(tab, on);
        return () => this.#listeners.delete(tab);
      },
      patience: (then) => {
        let on = true;
        this.#later(`${tab} patience`, () => void (on && !this.isDead(tab) && then()));
        return () => (on = false);
      },
      silence: (then) => {
        this.#silences.set(tab, then);
        return () => this.#silences.delete(tab);
      },
    };
  }

  #channel(tab: string): Channel {
    const channel: Channel = {
      onmessage: null,
      postMessage: (message) => {
        for (const [other, to] of this.#channels) {
          if (other !== tab && !this.isDead(tab) && !this.loses((message as Envelope).said, other)) {
            const data = structuredClone(message) as Envelope;
            const hear = (): unknown => {
              if (this.uncounted) {
                data.updates = this.#counts(other, data);
              }
              return this.isDead(other) || to.onmessage?.({ data } as MessageEvent);
            };
            this.#later(`${tab}>${other}`, () => void hear());
          }
        }
      },
      close: () => this.#channels.delete(tab),
    };
    this.#channels.set(tab, channel);
    return channel;
  }

  /** Returns a count of updates in which a tab finds no gap. */
  #counts(tab: string, { epoch, said }: Envelope): number {
    const of = `${tab} ${epoch}`;
    const counted = (this.#counted.get(of) ?? 0) + (said.type === "update" ? 1 : 0);
    this.#counted.set(of, counted);
    return counted;
  }

  /** Opens the store in a tab that is to lead. */
  async lead(tab: string): Promise<Led> {
    await this.pause(tab);
    const holder = this.locks.holder("pim:alice:browser");
    [...this.#leading].filter((other) => other !== holder).forEach((other) => this.#leading.delete(other)); // they were robbed
    if (tab === holder) {
      this.#leading.add(tab); // else it was robbed before it has begun
    }
    this.leaders++;
    const term = ++this.term;
    this.mostLeaders = Math.max(this.mostLeaders, this.#leading.size);
    const session = new FakeSession(this, tab, term);
    session.resume();
    const close = async (): Promise<void> => {
      await this.pause(tab);
      await session.close();
      this.#leading.delete(tab);
    };
    const ended = this.forgets ? [] : [...this.ended];
    return { session, term, fresh: term === 1, ended, onLost: (on) => (session.lost = on), close };
  }
}

/** The session of a leader whose engine only sends messages to one conversation. */
class FakeSession implements Session {
  readonly feed = undefined;
  readonly #w: World;
  readonly #tab: string;
  readonly #term: number;
  lost: (err: PimError) => void = () => undefined;
  readonly #listeners = new Set<(update: Update) => void>();
  readonly #leaving = new Map<ClientMessageID, Pending>(); // have left the store's outbox, which was not said yet
  #number = 0;
  #closed = false;

  constructor(w: World, tab: string, term: number) {
    this.#w = w;
    this.#tab = tab;
    this.#term = term;
  }

  /** Sends what an earlier leader has left. */
  resume(): void {
    [...this.#w.outbox.keys()].forEach((id) => this.#send(id).catch(() => undefined)); // closed meanwhile
  }

  async #pause(): Promise<void> {
    await this.#w.pause(this.#tab);
    if (this.#closed) {
      throw new PimError("unavailable", "the client is closed");
    }
    if (this.#w.term !== this.#term) {
      const taken = new PimError("conflict", "another tab has the database");
      this.lost(taken);
      throw taken;
    }
  }

  #event(event: Record<string, unknown>, more: object = {}): void {
    const update = { type: "event", number: ++this.#number, event, ...more } as unknown as Update;
    this.#listeners.forEach((on) => on(update));
  }

  async do(input: Parameters<Session["do"]>[0]): Promise<void> {
    await this.#pause();
    if (input.type !== "send") {
      return;
    }
    const m = input.message;
    this.#w.sends++;
    if (this.#w.outbox.has(m.id)) {
      throw new PimError("conflict", `message ${m.id} is in the outbox`);
    }
    const pending: Pending = { ...m, state: "queued", err: undefined, local: 1 };
    this.#w.outbox.set(m.id, pending);
    this.#event({ type: "send", id: m.id, conversation: direct, state: "queued" }, { pending });
    this.#send(m.id).catch(() => undefined); // closed meanwhile
    await this.#pause();
  }

  async #send(id: ClientMessageID): Promise<void> {
    await this.#pause();
    const m = this.#w.outbox.get(id);
    assert.ok(m);
    const known = this.#w.log.find((e) => e.clientID === id);
    const seq = known?.seq ?? this.#w.log.length + 1;
    const e = known ?? { ...entry(direct, seq), clientID: id, payload: m.payload, device: "browser" };
    if (!known) {
      this.#w.log.push(e); // the server has it, and whoever leads may die before it knows
      await this.#pause();
      this.#event({ type: "entry", entry: e, late: false, number: seq }, { skipped: 0 });
    }
    await this.#pause();
    const sent = { conversation: direct, seq, anchor: seq, server: e.server, ahead: 0, order: 0, count: seq, allCount: 0 };
    const answer = { ...sent, duplicate: known !== undefined, strangers: [] };
    const ev: SendEvent = { type: "send", id, conversation: direct, state: "sent", sent: answer };
    this.#w.outbox.delete(id);
    this.#w.ended.push(ev);
    this.#leaving.set(id, m);
    await this.#pause(); // whoever leads may die before the others hear it
    this.#leaving.delete(id);
    this.#event({ ...ev });
  }

  /** Nobody answers. */
  ask(...[, signal]: Parameters<Session["ask"]>): Promise<never> {
    assert.ok(signal);
    this.#w.asked.push(signal);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }

  async fill(): Promise<boolean> {
    return false;
  }

  async page(...[, before]: Parameters<Session["page"]>): ReturnType<Session["page"]> {
    await this.#pause();
    assert.equal(before, undefined);
    return {
      number: this.#number,
      entries: [...this.#w.log],
      folds: [],
      missing: false,
      skipped: 0,
      front: 0,
      outbox: this.#outbox(),
    };
  }

  async messages(): Promise<never> {
    throw new PimError("internal", "not asked");
  }

  async folds(): ReturnType<Session["folds"]> {
    return { number: this.#number, folds: [] };
  }

  async ended(): Promise<[]> {
    return [];
  }

  async outbox(): ReturnType<Session["outbox"]> {
    await this.#pause();
    return this.#outbox();
  }

  /** Returns what was said to be in the outbox: a loop answers when all is said that went before. */
  #outbox(): Pending[] {
    return [...new Map([...this.#leaving, ...this.#w.outbox]).values()];
  }

  async rows(): ReturnType<Session["rows"]> {
    return [];
  }

  async entriesAfter(): Promise<Entry[]> {
    return [];
  }

  /** Is answered at once, as by a LocalSession: so what is asked for behind it is as of the same moment or later. */
  async start(): ReturnType<Session["start"]> {
    return { number: this.#number, user: "alice", state: "connected", err: undefined, settings: [], synced: true };
  }

  listen(on: (update: Update) => void): () => void {
    this.#listeners.add(on);
    return () => this.#listeners.delete(on);
  }

  hold(): void {}

  async close(): Promise<void> {
    this.#closed = true;
  }
}
