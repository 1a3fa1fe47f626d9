import { type AppInput, type AskInput, type FoldPage, type MessagePage, type PageStart } from "../client/session.js";
import { type Session, type Started, type Update, type ViewPage } from "../client/session.js";
import { errClosed } from "../client/loop.js";
import { type Pending, type Pulled } from "../engine/index.js";
import {
  checkConversationID,
  checkUserID,
  type ConversationID,
  type Entry,
  kindOf,
  PimError,
  pimErrorOf,
  type Seq,
} from "../pim/index.js";
import { newerVersion } from "../store/errors.js";
import { type ConversationRow } from "../store/store.js";
import { type Call, type Envelope, pack, protocol, type Said, type Says, saysNothing, unpack } from "./channel.js";
import { Leader } from "./leader.js";

/** What tabs need of a browser. */
export interface TabsEnvironment {
  locks: LockManager;
  channel: (name: string) => Channel;
  /** Reports whether a person sees the page. */
  visible: () => boolean;
  /** Has on called when that may have changed. The function that it returns ends that. */
  onVisible: (on: () => void) => () => void;
  /**
   * Calls then once a tab has been visible for long enough to lead instead of a hidden one. The function that it returns calls
   * that off.
   */
  patience: (then: () => void) => () => void;
}

/** What a tab uses of a BroadcastChannel. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => unknown) | null;
  close(): void;
}

/** A session that this tab leads with. close gives up its store, too. */
export interface Led {
  session: Session;
  /** Greater than that of every tab that has led with this store before: what tabs say may come late. */
  term: number;
  /** Has on called when the store cannot be used any more. */
  onLost: (on: (err: PimError) => void) => void;
  close: () => Promise<void>;
}

/** A call that has no answer yet. */
interface Waiting {
  call: Call;
  signal: AbortSignal | undefined;
  tries: number;
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
 * A tab that a person looks at asks a hidden leader to make way, since timers of hidden tabs are slow. The hidden tabs that wait for
 * the lock go to the end of the queue then.
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
  #began = false; // some leader was known
  #abdicate: (() => void) | undefined; // ends this tab's leadership
  #watch: AbortSignal | undefined; // is aborted at the end of this tab's leadership
  readonly #watched = new Set<string>(); // tabs whose death is waited for
  readonly #aborts = new Map<string, AbortController>(); // of calls of other tabs
  #requeue: AbortController | undefined; // of the request for the leader's lock
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
    tab.#ends.push(env.onVisible(() => tab.#look()));
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

  // Leading.

  /** Asks for the leader's lock, again and again. */
  async #stand(): Promise<void> {
    while (!this.#ended()) {
      this.#requeue = new AbortController();
      try {
        await this.#env.locks.request(this.#name, { signal: this.#requeue.signal }, () => this.#reign());
      } catch (err) {
        if (!this.#requeue.signal.aborted) {
          this.#fail(err); // the lock was taken away from this tab, or there are no locks here
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
    const ended = new Promise<void>((resolve) => (this.#abdicate = resolve));
    let led: Led;
    try {
      led = await this.#lead();
    } catch (err) {
      this.#fail(err);
      return;
    }
    const watch = new AbortController();
    if (!this.#ended()) {
      led.onLost((err) => this.#fail(err));
      const leader = new Leader(led.session);
      this.#leader = leader;
      this.#watch = watch.signal;
      this.#epoch = Math.max(this.#epoch + 1, led.term);
      this.#other = undefined;
      led.session.listen((update) => {
        if (this.#leader === leader) {
          if (this.#watched.size > 0) {
            this.#post("", { type: "update", update: pack(update) as Update }); // who has asked nothing yet needs none
          }
          this.#tell(update);
        }
      });
      this.#post("", { type: "leads", visible: this.#env.visible() });
      this.#follow();
      this.#look();
      await ended;
      this.#leader = undefined;
      this.#aborts.clear();
      this.#watched.clear();
    }
    watch.abort();
    await led.close();
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
      leader.drop(tab);
    });
    dead.catch(() => undefined); // this tab does not lead any more
  }

  /** Answers what another tab has called. */
  async #serve(leader: Leader, tab: string, n: number, call: Call): Promise<void> {
    this.#expect(tab);
    const abort = new AbortController();
    const key = `${n} ${tab}`;
    this.#aborts.set(key, abort);
    const said: Said = { type: "answer", n };
    try {
      said.result = pack(await leader.run(tab, unpack(call) as Call, abort.signal));
    } catch (err) {
      said.err = pack(err);
    }
    if (this.#leader === leader && !abort.signal.aborted) {
      this.#aborts.delete(key);
      this.#post(tab, said);
    }
  }

  // Following.

  #post(to: string, said: Said): void {
    if (!this.#died.signal.aborted) {
      const envelope: Envelope = { v: protocol, from: this.#me, to, epoch: this.#epoch, said };
      this.#channel.postMessage(envelope);
    }
  }

  #hear({ v, from, to, epoch, said }: Envelope): void {
    if (v > protocol) {
      this.#fail(newerVersion());
    }
    if (v !== protocol || this.#ended() || (to !== "" && to !== this.#me)) {
      return;
    }
    switch (said.type) {
      case "who":
        this.#announce();
        break;
      case "leads":
        if (epoch >= this.#epoch && !this.#leader) {
          const known = epoch === this.#epoch;
          this.#epoch = epoch;
          this.#other = { visible: said.visible };
          if (!known) {
            this.#follow();
          }
          this.#look();
        }
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
          void this.#serve(this.#leader, from, said.n, said.call);
        }
        break;
      case "abort":
        this.#aborts.get(`${said.n} ${from}`)?.abort();
        this.#aborts.delete(`${said.n} ${from}`);
        break;
      case "answer":
        if (epoch === this.#epoch) {
          this.#settle(said.n, said.result, said.err);
        }
        break;
      case "update":
        if (!this.#leader && epoch === this.#epoch) {
          this.#tell(unpack(said.update) as Update);
        }
    }
  }

  #announce(): void {
    if (this.#leader) {
      this.#post("", { type: "leads", visible: this.#env.visible() });
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

  /** Another leader is known now, this tab or another one: says what this tab says, and asks again what waits. */
  #follow(): void {
    const again = this.#began;
    this.#began = true;
    const waiting = [...this.#waiting];
    this.#say().catch(() => undefined); // what is wrong with it was said when it was given
    waiting.forEach(([n, w]) => this.#ask(n, w));
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
      const w: Waiting = { call, signal, tries: 0, resolve: end(resolve), reject: end(reject) };
      this.#waiting.set(n, w);
      this.#ask(n, w);
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
      this.#post("", { type: "call", n, call: pack(w.call) as Call });
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

  // Session.

  async do(input: AppInput): Promise<void> {
    const says = this.#says;
    switch (input.type) {
      case "foreground":
        says.foreground = input.on;
        return this.#say();
      case "online":
        says.online = input.on;
        return this.#say();
      case "open":
        says.open = input.conversation;
        return this.#say();
      case "reading":
        checkConversationID(input.conversation);
        says.reading = says.reading.filter((c) => c !== input.conversation);
        if (input.on) {
          says.reading.push(input.conversation);
        }
        return this.#say();
      case "look": {
        const { conversations, users } = input;
        conversations.forEach(checkConversationID);
        users.forEach(checkUserID);
        if (conversations.length + users.length > 100) {
          throw new PimError("too_large", `a look at ${conversations.length + users.length}, at most 100 are allowed`);
        }
        says.look = { conversations, users };
        return this.#say();
      }
      default:
        await this.#call({ method: "do", args: [input] });
    }
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

/**
 * Reports whether err, of a call that was made again with another leader, says that the call before had done what it was to do: a
 * message is in the outbox, was queued again, or is not in the outbox any more.
 */
function isDone(call: Call, err: unknown): boolean {
  const type = call.method === "do" ? (call.args[0] as AppInput).type : undefined;
  const kind = kindOf(err);
  return (
    ((type === "send" || type === "do" || type === "resend") && kind === "conflict") ||
    ((type === "resend" || type === "discard") && kind === "not_found")
  );
}
