import { type AppInput, type AskInput, type FoldPage, type MessagePage, type PageStart } from "../client/session.js";
import { type Session, type Started, type Update, type ViewPage } from "../client/session.js";
import { type SendEvent } from "../client/events.js";
import { errClosed } from "../client/loop.js";
import { type Pending, type Pulled } from "../engine/index.js";
import { type ClientMessageID, type ConversationID, type Entry, PimError, pimErrorOf, type Seq } from "../pim/index.js";
import { deleted, newerVersion } from "../store/errors.js";
import { type ConversationRow } from "../store/store.js";
import { Answers } from "./answers.js";
import { type Call, type Envelope, isDone, pack, protocol, type Said, unpack } from "./channel.js";
import { type Channel, type Led, type TabsEnvironment } from "./environment.js";
import { Leader } from "./leader.js";
import { noteSaid, type Says, saysNothing } from "./says.js";

/** A leader that has said nothing so many times in a row that it was asked for a sign of life is robbed of the lock. */
const mostSilent = 4;
/** A store that fails again within this time is not opened again, in milliseconds. */
const reopenAfter = 60_000;

/** A call that has no answer yet. */
interface Waiting {
  call: Call;
  signal: AbortSignal | undefined;
  tries: number;
  late: boolean; // it has waited for a while
  resolve: (result: unknown) => void;
  reject: (err: unknown) => void;
}

/**
 * The session of one of several tabs, of which one leads: it has the connection and the store, and does what the others ask for.
 *
 * The leader is who holds the Web Lock of the device's name; the other tabs wait for it. So a leader's death is seen at once. Each
 * tab has a lock of its own, for which the leader waits to see the tab's death. When another tab leads, what waits is asked again
 * there: a send has its client message ID, so it has one effect. Then an update "reset" says that what is known is to be read anew.
 *
 * A leader that is alive may not have heard a call, or be stopped: what waits for some seconds is asked again, which is answered
 * and not done twice. From a leader that gives no sign of life meanwhile a tab takes the lock. Should the leader go on one day, its
 * store refuses what it writes (Led.term), and it follows.
 *
 * A tab may miss an update, too. The leader counts its updates, and says the count with all that it says. A tab that finds a gap
 * tells a "reset". The last update has nothing behind it, so the leader says the count once more some seconds later.
 *
 * A tab that a person looks at asks a hidden leader, whose timers are slow, to make way. Hidden tabs that wait queue anew then.
 */
export class TabSession implements Session {
  readonly feed = undefined;
  readonly #name: string;
  readonly #env: TabsEnvironment;
  readonly #lead: () => Promise<Led>;
  readonly #me = crypto.randomUUID();
  readonly #channel: Channel;
  readonly #says: Says = saysNothing();
  readonly #listeners = new Set<(update: Update) => void>();
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  #leader: Leader | undefined; // this tab leads
  #epoch = 0; // of the last leader that was heard of, this tab or another one; 0: none was
  #other: { visible: boolean } | undefined; // another tab leads, as far as is known
  #fresh = false; // the store was empty when its last leader has opened it
  #began = false; // some leader was known
  #abdicate: (() => void) | undefined; // ends this tab's leadership
  #watch: AbortSignal | undefined; // is aborted at the end of this tab's leadership
  readonly #watched = new Set<string>(); // tabs whose death is waited for
  #answers: Answers | undefined; // to the calls of other tabs, while this tab leads
  #requeue: AbortController | undefined; // of the request for the leader's lock
  #steals = false; // this request takes the lock away from who holds it
  #silence: (() => void) | undefined; // calls off the look at what waits, or what the leader says once more
  #updates = 0; // how many the leader of #epoch has said, as far as this tab has heard
  #unsaid = false; // this tab leads, and is to say so once more
  #lostAt = -Infinity; // when this tab lost the store last
  #asked = 0; // the epoch of the last leader that was asked for because of an update
  #silent = 0; // how often the leader gave no sign of life, in a row
  #heard = false; // the leader gave one since it was looked at
  #impatient: (() => void) | undefined; // calls off that this tab asks to lead
  #failed: PimError | undefined; // why this tab can neither lead nor follow
  #died = new AbortController(); // this tab is closed
  readonly #ends: (() => void)[] = [];
  #stood: Promise<unknown> = Promise.resolve(); // the end of all attempts to lead

  private constructor(name: string, env: TabsEnvironment, lead: () => Promise<Led>) {
    this.#name = name;
    this.#env = env;
    this.#lead = lead;
    this.#channel = env.channel(name);
  }

  /**
   * Joins the tabs that have name, the device's. lead is called when this tab is to lead. It throws what lead throws, if the tab
   * has to lead at once.
   */
  static async open(name: string, env: TabsEnvironment, lead: () => Promise<Led>): Promise<TabSession> {
    const tab = new TabSession(name, env, lead);
    await tab.#live();
    tab.#channel.onmessage = ({ data }) => tab.#hear(data as Envelope);
    const onVisible = (): void => {
      tab.#look();
      if (env.visible()) {
        tab.#post("", { type: "who" }); // a person sees now whether it has missed an update
      }
    };
    tab.#ends.push(env.onVisible(onVisible));
    tab.#stood = tab.#stand();
    tab.#post("", { type: "who" });
    try {
      await tab.start(); // somebody leads, maybe this tab
    } catch (err) {
      await tab.close();
      throw err;
    }
    return tab;
  }

  /** Takes the lock that says that this tab lives. */
  #live(): Promise<void> {
    return new Promise((resolve, reject) => {
      const held = this.#env.locks.request(this.#lockOf(this.#me), () => {
        resolve();
        return new Promise<void>((done) => this.#died.signal.addEventListener("abort", () => done()));
      });
      held.catch(reject);
    });
  }

  #lockOf(tab: string): string {
    return `${this.#name}:tab:${tab}`;
  }

  /** Asks for the leader's lock, again and again. */
  async #stand(): Promise<void> {
    while (!this.#ended()) {
      const requeue = new AbortController();
      this.#requeue = requeue;
      const options: LockOptions = this.#steals ? { steal: true } : { signal: requeue.signal };
      this.#steals = false;
      const reigns: Promise<void>[] = [];
      const reign = (): Promise<void> => reigns[reigns.push(this.#reign()) - 1] ?? Promise.resolve();
      try {
        await this.#env.locks.request(this.#name, options, reign);
      } catch (err) {
        if (reigns.length > 0) {
          this.#abdicate?.(); // the lock was taken away from this tab
          await Promise.all(reigns).catch((failed: unknown) => this.#fail(failed));
        } else if (!requeue.signal.aborted) {
          this.#fail(err); // there are no locks here
        }
      }
    }
  }

  #ended(): boolean {
    return this.#died.signal.aborted || this.#failed !== undefined;
  }

  /** Leads, until that is to end. The lock is held for as long. */
  async #reign(): Promise<void> {
    if (this.#ended()) {
      return;
    }
    let over = false;
    const ended = new Promise<void>((resolve) => {
      this.#abdicate = () => {
        over = true;
        this.#leader = undefined;
        this.#answers?.end();
        this.#answers = undefined;
        this.#abdicate = undefined;
        resolve();
      };
    });
    let led: Led;
    try {
      led = await this.#lead();
    } catch (err) {
      this.#fail(err);
      return;
    }
    const watch = new AbortController();
    if (!this.#ended() && !over) {
      led.onLost((err) => over || this.#lose(err));
      const leader = new Leader(led.session, led.ended);
      this.#leader = leader;
      this.#answers = new Answers(leader, (to, said) => this.#post(to, said));
      this.#watch = watch.signal;
      this.#epoch = Math.max(this.#epoch + 1, led.term);
      this.#updates = 0;
      this.#other = undefined;
      this.#fresh = led.fresh;
      led.session.listen((update) => {
        if (this.#leader === leader) {
          leader.note(update);
          if (this.#watched.size > 0) {
            this.#updates++; // who has asked nothing yet needs none
            this.#post("", { type: "update", update: pack(update) as Update });
            this.#unsaid = true;
            this.#doubt();
          }
          this.#tell(update);
        }
      });
      this.#look();
      this.#follow();
      this.#unsaid = true; // who has not heard that this tab leads hears it later
      this.#doubt();
      await ended;
      this.#watched.clear();
    }
    watch.abort();
    await led.close();
  }

  /** The store that this tab leads with is lost. If another tab has it, or opening it again may help, the tabs go on. */
  #lose(err: PimError): void {
    const again = err.kind === "unavailable" && Date.now() - this.#lostAt > reopenAfter;
    this.#lostAt = Date.now();
    if (again || err.kind === "conflict") {
      this.#abdicate?.();
    } else {
      this.#fail(err);
    }
  }

  /** Sees to it that what a tab has said goes when the tab dies. */
  #expect(tab: string): void {
    const leader = this.#leader;
    if (!leader || !this.#watch || this.#watched.has(tab)) {
      return;
    }
    this.#watched.add(tab);
    const dead = this.#env.locks.request(this.#lockOf(tab), { signal: this.#watch }, () => {
      this.#watched.delete(tab);
      this.#answers?.drop(tab);
      leader.drop(tab);
    });
    dead.catch(() => undefined); // this tab does not lead any more
  }

  #post(to: string, said: Said): void {
    if (!this.#died.signal.aborted) {
      const updates = this.#leader ? this.#updates : 0;
      const envelope: Envelope = { v: protocol, from: this.#me, to, epoch: this.#epoch, updates, said };
      this.#channel.postMessage(envelope);
    }
  }

  #hear({ v, from, to, epoch, updates, said }: Envelope): void {
    if (v > protocol) {
      this.#fail(newerVersion());
    }
    if (v < protocol && !this.#ended()) {
      this.#announce(); // so a tab of an older version hears that it is one
    }
    if (v !== protocol || this.#ended() || (to !== "" && to !== this.#me)) {
      return;
    }
    switch (said.type) {
      case "who":
        this.#announce();
        break;
      case "leads":
        if (this.#leader && epoch > this.#epoch) {
          this.#abdicate?.(); // it was robbed of the lock
        }
        if (epoch >= this.#epoch && !this.#leader) {
          this.#heard = true;
          const known = epoch === this.#epoch;
          this.#epoch = epoch;
          this.#fresh = said.fresh;
          this.#other = { visible: said.visible };
          if (known) {
            this.#count(updates);
          } else {
            this.#updates = updates;
            this.#follow();
          }
          this.#look();
        }
        break;
      case "takes":
        this.#heard = true;
        break;
      case "yield":
        if (this.#env.visible()) {
          this.#announce();
        } else {
          this.#requeue?.abort();
          this.#abdicate?.();
        }
        break;
      case "call":
        if (this.#leader && epoch === this.#epoch) {
          this.#expect(from);
          void this.#answers?.serve(from, said.n, said.least, said.call);
        }
        break;
      case "abort":
        this.#answers?.abort(from, said.n);
        break;
      case "answer":
        if (epoch === this.#epoch) {
          this.#heard = true;
          this.#settle(said.n, said.result, said.err);
          this.#count(updates);
        }
        break;
      case "update":
        if (!this.#leader && epoch === this.#epoch) {
          this.#heard = true;
          this.#count(updates, 1);
          this.#tell(unpack(said.update) as Update);
        } else if (!this.#leader && epoch > Math.max(this.#epoch, this.#asked)) {
          this.#asked = epoch; // once: if the answer is lost, the leader says a while after its updates that it leads
          this.#post("", { type: "who" }); // what the leader said at its beginning was missed
        }
    }
  }

  /** Takes note of how many updates the leader has said, of which news come now. If some were missed, all is to be read anew. */
  #count(updates: number, news = 0): void {
    const missed = updates !== this.#updates + news;
    this.#updates = updates;
    if (missed) {
      this.#tell({ type: "reset", number: 0 });
    }
  }

  #announce(): void {
    this.#unsaid = false;
    if (this.#leader) {
      this.#post("", { type: "leads", visible: this.#env.visible(), fresh: this.#fresh });
    } else if (this.#abdicate) {
      this.#post("", { type: "takes" });
    }
  }

  /** Sees to it that a tab leads that a person looks at, if this is one. */
  #look(): void {
    this.#announce();
    this.#impatient?.();
    this.#impatient = undefined;
    const wants = (): boolean => this.#env.visible() && this.#other?.visible === false && !this.#leader && !this.#ended();
    if (wants()) {
      this.#impatient = this.#env.patience(() => {
        if (wants()) {
          this.#post("", { type: "yield" });
          this.#look(); // the next to lead may be hidden, too
        }
      });
    }
  }

  /**
   * While calls wait for another tab: looks at them after a while, asks again, and takes the lock of a leader that is silent. In the
   * tab that leads: says after a while how many updates there were.
   */
  #doubt(): void {
    const doubts = (): boolean => (this.#leader ? this.#unsaid : this.#waiting.size > 0) && !this.#ended();
    if (this.#silence || !doubts()) {
      return;
    }
    this.#silence = this.#env.silence(() => {
      this.#silence = undefined;
      if (this.#leader || !doubts()) {
        this.#silent = 0;
        if (this.#unsaid) {
          this.#announce();
        }
        return;
      }
      this.#silent = this.#heard || this.#abdicate ? 0 : this.#silent + 1;
      this.#heard = false;
      if (this.#silent >= mostSilent) {
        this.#silent = 0;
        this.#steals = true;
        this.#post("", { type: "takes" });
        this.#requeue?.abort();
      } else {
        this.#post("", { type: "who" });
        for (const [n, w] of [...this.#waiting]) {
          if (w.late) {
            this.#ask(n, w);
          }
          w.late = true;
        }
      }
      this.#doubt();
    });
  }

  /** Another leader is known now, this tab or another one: says what this tab says, and asks again what waits. */
  #follow(): void {
    const again = this.#began;
    this.#began = true;
    if (again && this.#fresh) {
      this.#fail(deleted()); // the store that this tab knew is gone, and what waited in it
      return;
    }
    const waiting = [...this.#waiting];
    this.#say().catch(() => undefined); // what is wrong with it was said when it was given
    waiting.forEach(([n, w]) => this.#ask(n, w));
    this.#doubt();
    if (again) {
      this.#tell({ type: "reset", number: 0 });
    }
  }

  #tell(update: Update): void {
    [...this.#listeners].forEach((on) => on(update));
  }

  /** Has the leader do something. */
  #call(call: Call, signal?: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#failed ?? this.#died.signal.aborted) {
        reject(this.#failed ?? errClosed);
        return;
      }
      signal?.throwIfAborted();
      const n = ++this.#calls;
      const abort = (): void => {
        if (this.#waiting.delete(n)) {
          this.#post("", { type: "abort", n });
          reject(signal?.reason);
        }
      };
      signal?.addEventListener("abort", abort);
      const end =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          signal?.removeEventListener("abort", abort);
          then(value);
        };
      const w: Waiting = { call, signal, tries: 0, late: false, resolve: end(resolve), reject: end(reject) };
      this.#waiting.set(n, w);
      this.#ask(n, w);
      this.#doubt();
    });
  }

  #ask(n: number, w: Waiting): void {
    const leader = this.#leader;
    if (!leader && !this.#other) {
      return; // it is asked when somebody leads
    }
    w.tries++;
    if (w.call.method === "say") {
      w.call.args = [structuredClone(this.#says)]; // as it is now: a call that waits may be older
    }
    if (!leader) {
      const least = Math.min(...this.#waiting.keys());
      this.#post("", { type: "call", n, least, call: pack(w.call) as Call });
      return;
    }
    const settle = (result: unknown, err?: unknown): void => {
      if (this.#leader === leader) {
        this.#settle(n, result, err);
      }
    };
    leader.run(this.#me, w.call, w.signal).then(
      (result) => settle(result),
      (err: unknown) => settle(undefined, err),
    );
  }

  #settle(n: number, result: unknown, err: unknown): void {
    const w = this.#waiting.get(n);
    if (!w) {
      return;
    }
    this.#waiting.delete(n);
    if (err === undefined) {
      w.resolve(unpack(result));
      return;
    }
    const failed = unpack(err);
    if (w.tries > 1 && isDone(w.call, failed)) {
      w.resolve(undefined);
    } else {
      w.reject(failed);
    }
  }

  /** This tab can neither lead nor follow any more. */
  #fail(err: unknown): void {
    if (this.#ended()) {
      return;
    }
    const said = err instanceof Error ? err.message : String(err);
    const failed = pimErrorOf(err) ?? new PimError("unavailable", said, { cause: err });
    this.#failed = failed;
    this.#requeue?.abort();
    this.#abdicate?.();
    this.#rejectAll(failed);
    this.#tell({ type: "event", number: Number.MAX_SAFE_INTEGER, event: { type: "state", state: "stopped", err: failed } });
  }

  #rejectAll(err: unknown): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    all.forEach((w) => w.reject(err));
  }

  async do(input: AppInput): Promise<void> {
    if (noteSaid(this.#says, input)) {
      return this.#say();
    }
    await this.#call({ method: "do", args: [input] });
  }

  async #say(): Promise<void> {
    await this.#call({ method: "say", args: [] });
  }

  hold(on: boolean): void {
    this.#says.hold = on;
    this.#say().catch(() => undefined); // the session has ended
  }

  async ask(input: AskInput, signal?: AbortSignal): Promise<Pulled> {
    return (await this.#call({ method: "ask", args: [input] }, signal)) as Pulled;
  }

  async fill(conversation: ConversationID, before: Seq, limit: number, signal?: AbortSignal): Promise<boolean> {
    return (await this.#call({ method: "fill", args: [conversation, before, limit] }, signal)) as boolean;
  }

  async page(conversation: ConversationID, before: PageStart | undefined, limit: number): Promise<ViewPage> {
    return (await this.#call({ method: "page", args: [conversation, before, limit] })) as ViewPage;
  }

  async messages(conversation: ConversationID, from: Seq, to: Seq): Promise<MessagePage> {
    return (await this.#call({ method: "messages", args: [conversation, from, to] })) as MessagePage;
  }

  async folds(conversation: ConversationID, from: Seq, to: Seq): Promise<FoldPage> {
    return (await this.#call({ method: "folds", args: [conversation, from, to] })) as FoldPage;
  }

  async outbox(conversation: ConversationID): Promise<Pending[]> {
    return (await this.#call({ method: "outbox", args: [conversation] })) as Pending[];
  }

  async ended(ids: readonly ClientMessageID[]): Promise<SendEvent[]> {
    return (await this.#call({ method: "ended", args: [ids] })) as SendEvent[];
  }

  async rows(conversation?: ConversationID): Promise<ConversationRow[]> {
    return (await this.#call({ method: "rows", args: [conversation] })) as ConversationRow[];
  }

  async entriesAfter(conversation: ConversationID, after: Seq, limit: number): Promise<Entry[]> {
    return (await this.#call({ method: "entriesAfter", args: [conversation, after, limit] })) as Entry[];
  }

  async start(): Promise<Started> {
    return (await this.#call({ method: "start", args: [] })) as Started;
  }

  listen(on: (update: Update) => void): () => void {
    this.#listeners.add(on);
    return () => this.#listeners.delete(on);
  }

  async close(): Promise<void> {
    this.#impatient?.();
    this.#silence?.();
    this.#ends.splice(0).forEach((end) => end());
    this.#rejectAll(errClosed);
    this.#died.abort();
    this.#requeue?.abort();
    this.#abdicate?.();
    await this.#stood;
    this.#channel.onmessage = null;
    this.#channel.close();
  }
}
