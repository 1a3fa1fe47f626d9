import {
  type Duration,
  Engine,
  type Event as EngineEvent,
  type Filled,
  type Input,
  messageOf,
  type Output,
  type Pending,
  type Pulled,
  type Read,
  second,
  type SendEvent,
  type Setting,
  skipped,
  type Snapshot,
  type State,
} from "../engine/index.js";
import { kindOf, PimError } from "../pim/index.js";
import { type Store } from "../store/store.js";
import { type Clock } from "./clock.js";
import { Feed, feedPage } from "./confirm.js";
import { Dials, type Dialled } from "./dial.js";
import { eventOf, isEnd } from "./events.js";
import { Link } from "./link.js";
import { type Checked } from "./options.js";
import { type HappenedUpdate, type Update } from "./session.js";

// The loop is the one that steps the engine and does what the engine asks for, one Output at a time (see the duties of the caller
// in engine.ts). What comes while it stores something waits, in order. It never waits for the network or the app: while the app
// does not take its events, the loop leaves the network unread and goes on with everything else.

/**
 * How many frames and commands the engine may be stepped with before its output is carried out, so that under load one transaction
 * stores what all of them change: a transaction that is flushed takes some milliseconds.
 */
const maxFrames = 64;
const maxCommands = 256;
/** How long the app may leave events untaken before the engine is told that reading has stopped. */
const patience: Duration = second;
/**
 * The longest time between two steps of the engine while there is a connection. Timers stand still while the device sleeps. When
 * the device wakes up, the connection may be long dead, and the next heartbeat minutes away.
 */
const sleepWatch: Duration = 10 * second;
/** A timer that comes so late was held up by something that has held up frames, too. */
const lateBy: Duration = second / 4;

/** The error of every call after close, and of every call that close interrupts. */
export const errClosed = new PimError("unavailable", "the client is closed");

/** Something to do for a caller, between two Outputs. It may step the engine; then it is answered when that is stored. */
interface Command {
  run: () => unknown;
  resolve: (result: unknown) => void;
  reject: (err: unknown) => void;
}

/** What waits for an answer of the engine. */
interface Waiting<T> {
  resolve: (answer: T) => void;
  reject: (err: unknown) => void;
}

/** Owns the engine, the store and the connection of one device. */
export class Loop {
  readonly engine: Engine;
  readonly store: Store;
  readonly feed: Feed | undefined;
  /** As the app was told. */
  readonly settings = new Map<string, Setting>();
  state: State = "connecting";
  /** As of the last StateEvent. */
  err: Error | undefined;
  synced = false;
  /** Of the last update. */
  number = 0;

  readonly #clock: Clock;
  readonly #dials: Dials;
  #link: Link | undefined;
  #commands: Command[] = [];
  #jobs: (() => void)[] = []; // outcomes of dials
  #replies: (() => void)[] = []; // given when the output is carried out
  readonly #listeners = new Set<(update: Update) => void>();
  readonly #pulled = new Map<number, Waiting<Pulled>>();
  readonly #filled = new Map<number, Waiting<Filled>>();
  #lastAsk = 0;
  #held = false; // the app does not take its events
  #heldSince: Duration | undefined;
  #paused = false; // the engine was told of that
  /** Is called when nothing but close works any more, mostly because the store failed. */
  onBroken: (err: PimError) => void = () => undefined;
  #broken: PimError | undefined; // the store failed; nothing is stepped any more
  #steppedAt: Duration = 0;
  #wake: (() => void) | undefined; // the loop waits; this wakes it
  #closing = false;
  #over = false; // no round follows
  #ended: Promise<void> | undefined;

  /** snapshot is what store holds. */
  constructor(o: Checked, store: Store, snapshot: Snapshot) {
    const { device, agent = "", watch = false, peek = false, confirm = false, lazyGap = 0 } = o.options;
    const { user, servers, backoffMin, backoffMax, requestTimeout, random } = o;
    const engine = { user, device, agent, servers, watch, peek, confirms: confirm, backoffMin, backoffMax, requestTimeout };
    this.engine = new Engine({ ...engine, page: 0, lazyGap, random }, snapshot);
    this.store = store;
    this.#clock = o.clock;
    this.#dials = new Dials(o);
    this.feed = confirm ? new Feed(snapshot.meta, () => this.#stir()) : undefined;
    snapshot.settings.forEach((set) => this.settings.set(set.entity, set));
    store.onLost?.((err) => this.#do(() => this.#breakDown(storeError(err))));
  }

  /** Connects, and goes on until close. */
  start(): void {
    this.#ended = this.#run();
  }

  /** Has on called with every update from now on. The function that it returns ends that. */
  listen(on: (update: Update) => void): () => void {
    this.#listeners.add(on);
    return () => this.#listeners.delete(on);
  }

  /** Says that the app does not take its events, or takes them again. */
  hold(on: boolean): void {
    this.#held = on;
    this.#stir();
  }

  /** Steps the engine with an input of the app. It resolves when what that changes is stored. */
  async do(input: Input): Promise<void> {
    await this.call(() => {
      const refused = this.#step(input);
      if (refused !== undefined) {
        throw refused;
      }
    });
  }

  /** Calls f between two Outputs, where engine and store can be looked at, and returns what f returns. */
  call<T>(f: () => T | Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closing) {
        reject(errClosed);
        return;
      }
      this.#commands.push({ run: f, resolve: resolve as (result: unknown) => void, reject });
      this.#stir();
    });
  }

  /** Gives the engine a question under a new id, and returns the answer. */
  async ask(question: (id: number) => Input, signal?: AbortSignal): Promise<Pulled> {
    const answer = await this.#answer(this.#pulled, question, signal);
    if (answer.err !== undefined) {
      throw answer.err;
    }
    return answer;
  }

  /** Has the engine fill holes, under a new id, and reports whether any are left. */
  async fill(request: (id: number) => Input, signal?: AbortSignal): Promise<boolean> {
    const { err, more } = await this.#answer(this.#filled, request, signal);
    if (err !== undefined) {
      throw err;
    }
    return more;
  }

  /** Ends the loop and gives up the connection. What waits to be acknowledged is transmitted first, if that is quick. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#stir();
    await this.#ended;
  }

  async #answer<T>(
    waiting: Map<number, Waiting<T>>,
    input: (id: number) => Input,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    signal?.throwIfAborted();
    const id = ++this.#lastAsk;
    const answer = new Promise<T>((resolve, reject) => waiting.set(id, { resolve, reject }));
    const abort = (): void => {
      waiting.get(id)?.reject(signal?.reason);
      waiting.delete(id);
      this.do({ type: "unask", id }).catch(() => undefined); // the loop has ended
    };
    signal?.addEventListener("abort", abort);
    try {
      const done = this.do(input(id));
      done.catch((err: unknown) => waiting.get(id)?.reject(err));
      return await answer;
    } finally {
      waiting.delete(id);
      signal?.removeEventListener("abort", abort);
    }
  }

  async #run(): Promise<void> {
    this.#step({ type: "start" });
    await this.#carryOut();
    while (!this.#closing) {
      if (!this.#ready()) {
        await this.#idle();
      }
      try {
        await this.#round();
      } catch (cause) {
        const said = cause instanceof Error ? cause.message : String(cause);
        this.#breakDown(new PimError("internal", `a defect of the client: ${said}`, { cause }));
      }
    }
    await this.#end();
  }

  /** Takes what has come, and does what follows from it. */
  async #round(): Promise<void> {
    for (let n = 0; n < maxFrames && !this.#closing && this.#ready(); n++) {
      this.#jobs.shift()?.();
      this.#take();
      await this.#obey();
    }
    for (let n = maxFrames; n < maxCommands && !this.#closing && this.#commands.length > 0; n++) {
      await this.#obey();
    }
    this.#tick();
    await this.#carryOut();
  }

  #ready(): boolean {
    return this.#jobs.length > 0 || this.#commands.length > 0 || this.#readable() || this.feed?.behind() !== undefined;
  }

  #readable(): boolean {
    return !this.#held && this.#link !== undefined && this.#link.ready;
  }

  /** Waits until there is something to do. */
  #idle(): Promise<void> {
    return new Promise((resolve) => {
      const now = this.#clock.now().mono;
      const due = this.#wakeAt(now);
      const stop =
        due === undefined
          ? undefined
          : this.#clock.after(due - now, () => {
              // A page that was throttled, or busy, may have frames that wait behind this timer. They come first.
              const late = this.#clock.now().mono - due > lateBy;
              if (late) {
                this.#clock.after(0, () => this.#stir());
              } else {
                this.#stir();
              }
            });
      this.#wake = () => {
        stop?.();
        this.#wake = undefined;
        resolve();
      };
      if (this.#closing || this.#ready()) {
        this.#wake();
      }
    });
  }

  #stir(): void {
    this.#wake?.();
  }

  /** Has job done between two Outputs, or at once when the loop has ended. */
  #do(job: () => void): void {
    if (this.#over) {
      job();
      return;
    }
    this.#jobs.push(job);
    this.#stir();
  }

  /** Takes what the link has read. */
  #take(): void {
    const input = this.#readable() ? this.#link?.take() : undefined;
    if (input === undefined) {
      return;
    }
    if (input.type === "lost") {
      this.#letGo();
    }
    this.#step(input);
  }

  async #obey(): Promise<void> {
    const command = this.#commands.shift();
    if (command === undefined) {
      return;
    }
    try {
      if (this.#broken !== undefined) {
        throw this.#broken;
      }
      const result = await command.run();
      this.#replies.push(() => (this.#broken === undefined ? command.resolve(result) : command.reject(this.#broken)));
    } catch (err) {
      this.#replies.push(() => command.reject(err));
    }
  }

  /** Steps the engine, and returns why it refuses the input. */
  #step(input: Input): PimError | undefined {
    if (this.#broken !== undefined) {
      return this.#broken;
    }
    const now = this.#clock.now();
    this.#steppedAt = now.mono;
    const at = this.engine.deadline();
    const moved = at !== undefined && at <= now.mono ? this.#link?.moved() : undefined;
    if (this.#link !== undefined && moved !== undefined) {
      // So the engine does not judge a busy connection dead, or a request unanswered. It never refuses this input.
      this.engine.step(now, { type: "arriving", attempt: this.#link.attempt, at: moved });
    }
    return this.engine.step(now, input);
  }

  /** Steps the engine if its time has come, and tells it of a pause. */
  #tick(): void {
    const now = this.#clock.now().mono;
    if (!this.#held) {
      this.#heldSince = undefined;
    } else {
      this.#heldSince ??= now;
    }
    const pause = this.#heldSince !== undefined && now - this.#heldSince >= patience;
    if (pause !== this.#paused) {
      this.#paused = pause;
      this.#step({ type: "pause", on: pause });
    }
    const by = this.#stepBy();
    if (by !== undefined && by <= this.#clock.now().mono) {
      this.#step({ type: "tick" });
    }
  }

  /** Returns when the engine is to be stepped at the latest; undefined: it need not be. */
  #stepBy(): Duration | undefined {
    const by = Math.min(this.engine.deadline() ?? Infinity, this.#link === undefined ? Infinity : this.#steppedAt + sleepWatch);
    return by === Infinity || this.#broken !== undefined ? undefined : by;
  }

  /** Returns when tick will have something to do; undefined: not before something comes. */
  #wakeAt(now: Duration): Duration | undefined {
    const by = this.#stepBy();
    if (this.#held && !this.#paused) {
      return Math.min(by ?? Infinity, (this.#heldSince ?? now) + patience);
    }
    return by;
  }

  /** Does what the engine asks for, in the order of its documentation. */
  async #carryOut(): Promise<void> {
    while (await this.#perform()); // until the engine asks for no more reads
    await this.#readAhead();
    const synced = this.#broken === undefined && this.engine.isSynced();
    if (synced !== this.synced) {
      this.synced = synced;
      this.#update({ type: "synced", number: ++this.number, on: synced });
    }
    const replies = this.#replies;
    this.#replies = [];
    replies.forEach((reply) => reply());
  }

  /** Carries out one Output, and reports whether it has given the engine an input: the answer to a Read. */
  async #perform(): Promise<boolean> {
    const out = this.engine.take();
    if (this.#broken === undefined && !isEmpty(out)) {
      try {
        await this.store.apply({ ...out.store, ended: out.events.filter(isEnd) });
      } catch (err) {
        this.#breakDown(storeError(err));
      }
    }
    if (this.#broken !== undefined) {
      return false;
    }
    if (out.frames.length > 0) {
      this.#link?.send(out.frames);
    }
    for (const attempt of out.hangups) {
      this.#hangUp(attempt);
    }
    for (const { attempt, server } of out.dials) {
      void this.#dials.dial(attempt, server, (d) => this.#do(() => this.#connect(d)));
    }
    for (const ev of out.events) {
      this.#hand(ev);
    }
    for (const f of out.filled) {
      this.#filled.get(f.id)?.resolve(f);
    }
    for (const p of out.pulled) {
      this.#pulled.get(p.id)?.resolve(p);
    }
    for (const r of out.reads) {
      await this.#readFor(r);
    }
    return out.reads.length > 0;
  }

  /** Reads the entries that r asks for from the store, and gives them to the engine. */
  async #readFor(r: Read): Promise<void> {
    if (this.#broken !== undefined) {
      return;
    }
    try {
      const { id, conversation, upTo, former, skip, limit } = r;
      const entries = await (former
        ? this.store.former(conversation, skip, limit)
        : this.store.below(conversation, upTo, limit));
      this.engine.step(this.#clock.now(), { type: "fromStore", id, entries }); // it is never refused
    } catch (err) {
      this.#breakDown(storeError(err));
    }
  }

  /** Fills the feed's queue from the store, if the feed is behind. */
  async #readAhead(): Promise<void> {
    const after = this.feed?.behind();
    if (after === undefined || this.#broken !== undefined) {
      return;
    }
    try {
      this.feed?.fill(await this.store.since(after, feedPage));
    } catch (err) {
      this.#breakDown(storeError(err));
    }
  }

  /**
   * Ends everything but close, mostly because the store failed. The engine is ahead of the store, so nothing that it asks for may
   * be done any more.
   */
  #breakDown(err: PimError): void {
    if (this.#broken !== undefined) {
      return;
    }
    this.#broken = err;
    this.onBroken(err);
    this.#dials.close();
    this.#letGo();
    this.#hand({ type: "state", state: "stopped", err });
    this.#refuseAll(err);
  }

  #refuseAll(err: PimError): void {
    for (const waiting of [this.#pulled, this.#filled]) {
      waiting.forEach(({ reject }) => reject(err));
      waiting.clear();
    }
  }

  /** Notes what an event says, and hands it over. */
  #hand(ev: EngineEvent): void {
    const update: HappenedUpdate = { type: "event", number: ++this.number, event: eventOf(ev) };
    switch (ev.type) {
      case "entry":
        this.feed?.add(ev);
        update.skipped = skipped(this.engine, ev.entry.conversation, ev.entry.seq);
        break;
      case "send":
        update.pending = this.#pendingOf(ev);
        break;
      case "setting":
        this.settings.set(ev.entity, { entity: ev.entity, ...ev.setting });
        break;
      case "erased":
        this.feed?.erase(ev);
        break;
      case "rewound":
        this.feed?.rewind(ev);
        break;
      case "state":
        this.state = ev.state;
        this.err = ev.err;
        update.user = this.engine.user();
    }
    this.#update(update);
  }

  /** Returns the message of ev as of ev, though later events of it may follow; undefined if it has left the outbox. */
  #pendingOf({ id, state, err }: SendEvent): Pending | undefined {
    const known = messageOf(this.engine, id);
    if (known === undefined || state === "sent" || state === "discarded" || state === "superseded") {
      return undefined;
    }
    return { ...known, state, err };
  }

  #update(update: Update): void {
    for (const on of [...this.#listeners]) {
      on(update);
    }
  }

  /** Ends an attempt: it gives up the dial, or closes the connection. */
  #hangUp(attempt: number): void {
    this.#dials.giveUp(attempt);
    if (this.#link?.attempt === attempt) {
      this.#letGo();
    }
  }

  #letGo(): void {
    this.#link?.close();
    this.#link = undefined;
  }

  /** Takes the outcome of a dial. */
  #connect({ attempt, conn, noToken, err }: Dialled): void {
    const wanted = this.#dials.took(attempt) && this.#broken === undefined;
    if (!wanted) {
      conn?.conn.close();
    } else if (conn !== undefined) {
      this.#letGo();
      this.#link = new Link(attempt, conn.conn, this.#clock, () => this.#stir());
      this.#step({ type: "dialled", attempt, token: conn.token });
    } else if (noToken !== undefined) {
      this.#step({ type: "noToken", attempt, err: noToken });
    } else if (err !== undefined) {
      this.#step({ type: "lost", attempt, err, code: 0 });
    }
  }

  /** Is the last thing that the loop does. */
  async #end(): Promise<void> {
    this.#over = true;
    this.#dials.close();
    this.#jobs.splice(0).forEach((job) => job()); // so a connection that nobody wants any more is closed
    const replies = this.#replies;
    this.#replies = [];
    replies.forEach((reply) => reply()); // of commands that a defect has interrupted
    for (const { reject } of this.#commands) {
      reject(errClosed);
    }
    this.#commands = [];
    this.#refuseAll(errClosed);
    if (this.#broken === undefined && this.#link !== undefined) {
      this.#step({ type: "close" });
      const out = this.engine.take();
      try {
        await this.store.apply(out.store);
        this.#link.send(out.frames);
      } catch {
        // It was not stored, so it is not said.
      }
      await this.#link.finish();
      this.#link = undefined;
    }
    this.state = "stopped";
  }
}

/** Reports whether out has nothing to be stored. */
function isEmpty({ store }: Output): boolean {
  return Object.values(store).every((part: unknown) => part === undefined || (Array.isArray(part) && part.length === 0));
}

/** Returns the error of a client whose store fails with cause. */
function storeError(cause: unknown): PimError {
  const kind = kindOf(cause);
  const said = cause instanceof Error ? cause.message : String(cause);
  return new PimError(kind === "unknown" ? "unavailable" : kind, `the local store failed: ${said}`, { cause });
}
