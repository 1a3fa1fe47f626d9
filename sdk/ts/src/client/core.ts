import { type Outgoing, type Setting, type State } from "../engine/index.js";
import {
  checkUserID,
  type ClientMessageID,
  type Command,
  CommandKind,
  type ConversationID,
  type DeviceID,
  entityOf,
  inForce,
  makeCommand,
  newClientMessageID,
  noSetting,
  PimError,
  pimErrorOf,
  type Setting as SettingState,
  type UserID,
} from "../pim/index.js";
import { newOutgoing } from "../engine/types.js";
import { checkFields, checkFunction, checkList } from "../pim/arguments.js";
import { type ConversationRow } from "../store/store.js";
import { type Event, type EventOf } from "./events.js";
import { Info } from "./info.js";
import { errClosed } from "./loop.js";
import { EventQueue, type EventsOptions } from "./queue.js";
import { Sending, Sendings } from "./sending.js";
import { type AppInput, type HappenedUpdate, type Session, type Started, type SyncedUpdate, type Update } from "./session.js";
import { type View, type ViewOwner } from "./view.js";
import { Bell, callApp } from "./wait.js";

/** A listener for events of all types. */
type Listener = (ev: Event) => void;

/** What a Client knows by its session's updates, and who is told of them: first the Views, then calls that wait, then the app. */
export class Core implements ViewOwner {
  readonly session: Session;
  readonly device: DeviceID;
  readonly sendings = new Sendings();
  /** Rings when state, synced or closed have changed. */
  readonly bell = new Bell();
  user: UserID = "";
  state: State = "connecting";
  synced = false;
  isClosed = false;
  /** As the app was told, by entity. */
  settings = new Map<string, Setting>();
  inFront = false;
  /** Conversations that a person reads, if the app is inFront. */
  readonly reading = new Set<ConversationID>();

  #number = 0; // of the last update, or what start was as of
  #early: Update[] | undefined = []; // updates before the answer to start; undefined: it has come
  #views: View[] = []; // open, in the order in which they were opened
  readonly #queues = new Set<EventQueue>();
  #held = false;
  readonly #listeners = new Map<Event["type"], Set<Listener>>();

  /** Begins to listen. */
  private constructor(session: Session, device: DeviceID) {
    this.session = session;
    this.device = device;
    session.listen((update) => this.#take(update));
  }

  /** Returns what a Client needs to begin. */
  static async start(session: Session, device: DeviceID): Promise<Core> {
    const core = new Core(session, device);
    core.#begin(await session.start());
    return core;
  }

  /** Why the client has stopped; undefined if it has not. */
  get stopped(): PimError | undefined {
    return this.sendings.stopped;
  }

  /** Throws errClosed after close. */
  usable(): void {
    if (this.isClosed) {
      throw errClosed;
    }
  }

  /** Hands in to the session. */
  async do(input: AppInput): Promise<void> {
    this.usable();
    await this.session.do(input);
  }

  /** Hands in, which is about the message id, to the session. */
  async queue(id: ClientMessageID, input: AppInput): Promise<Sending> {
    const [sending] = await this.queueAll([id], input);
    return sending ?? new Sending(this.sendings, id);
  }

  /** Hands in, which is about the messages ids, to the session. */
  async queueAll(ids: readonly ClientMessageID[], input: AppInput): Promise<Sending[]> {
    this.usable();
    const all = ids.map((id) => this.sendings.add(id));
    try {
      await this.session.do(input);
    } catch (err) {
      all.forEach((s) => this.sendings.forget(s.id, s));
      throw err;
    }
    all.forEach((s) => (s.accepted = true));
    return all;
  }

  /** Queues a message with these fields. */
  async send(fields: Pick<Outgoing, "conversation" | "kind"> & Partial<Outgoing>): Promise<Sending> {
    const id = newClientMessageID();
    const none = newOutgoing({ id, conversation: "", kind: fields.kind });
    const { payload, members, mentions } = { ...none, ...checkFields("message", none, fields) };
    const lists = {
      members: checkList("members", members, checkUserID),
      mentions: checkList("mentions", mentions, checkUserID),
    };
    return this.queue(id, { type: "send", message: { ...none, ...fields, ...lists, payload: payload.slice() } });
  }

  /** Queues a command with these fields. */
  async command(fields: Partial<Command>): Promise<Sending> {
    const id = newClientMessageID();
    const command = makeCommand(checkFields("command", makeCommand({}), fields));
    return this.queue(id, { type: "do", id, command: { ...command, value: command.value.slice() } });
  }

  /** Returns the setting of an entity, noSetting if there is none. */
  setting(entity: string): SettingState {
    return this.settings.get(entity) ?? noSetting;
  }

  /** Returns what a list shows of the conversation that row is of. */
  info(row: ConversationRow): Info {
    return new Info(row, this.settings, this.inFront && this.reading.has(row.id), Date.now());
  }

  /** Queues that the user has read a conversation up to seq, and takes the mark as unread away. */
  async markRead(subject: ConversationID, seq: number, count: number, all: number): Promise<Sending> {
    const read = await this.command({ kind: CommandKind.read, subject, seq, count, all });
    const marked = { kind: CommandKind.unread, subject };
    if (inForce(this.setting(entityOf(makeCommand(marked))), 0)) {
      await this.command({ ...marked, removed: true });
    }
    return read;
  }

  /** Opens a View. */
  async open(view: View): Promise<void> {
    this.usable();
    this.#views.push(view);
    try {
      await Promise.all([view.load(), this.session.do({ type: "open", conversation: view.conversation })]);
    } catch (err) {
      this.#views = this.#views.filter((other) => other !== view);
      throw err;
    }
  }

  /** Takes note that a View is closed. */
  async closed(view: View): Promise<void> {
    this.#views = this.#views.filter((other) => other !== view);
    const conversation = this.#views.at(-1)?.conversation ?? "";
    await this.session.do({ type: "open", conversation }).catch(() => undefined); // the client has ended, or its store has failed
  }

  /** Has listener called with every event of a type. The function that it returns ends that. */
  on<T extends Event["type"]>(type: T, listener: (e: EventOf<T>) => void): () => void {
    checkFunction("listener", listener);
    const own: Listener = (ev) => listener(ev as EventOf<T>);
    const all = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, all.add(own));
    return () => all.delete(own);
  }

  /** Returns an iterator of all events from now on. */
  events(o: EventsOptions): EventQueue {
    const q = new EventQueue(o, this.session.feed, (q) => {
      if (q.ended) {
        this.#queues.delete(q);
      }
      this.#hold();
    });
    this.#queues.add(q);
    if (this.isClosed) {
      q.end();
    }
    return q;
  }

  /** Ends the session, and all that waits. */
  async close(): Promise<void> {
    if (this.isClosed) {
      return;
    }
    this.isClosed = true;
    await this.session.close();
    this.state = "stopped";
    this.synced = false;
    this.sendings.settleAll(errClosed);
    [...this.#queues].forEach((q) => q.end());
    this.bell.ring();
  }

  #begin(s: Started): void {
    this.#number = s.number;
    this.user = s.user;
    this.settings = new Map(s.settings.map((set) => [set.entity, set]));
    this.synced = s.synced;
    this.#note(s.state, s.err);
    this.#takeEarly();
  }

  /** Takes the updates that have waited for the answer to start. */
  #takeEarly(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    early.forEach((update) => this.#take(update));
  }

  #take(update: Update): void {
    if (this.#early !== undefined) {
      this.#early.push(update);
      return;
    }
    if (update.type === "reset") {
      this.#reset();
    } else if (update.number > this.#number) {
      // else start has told it, but not to Views and the app
      this.#know(update);
    }
    [...this.#views].forEach((view) => view.take(update));
    if (update.type === "event") {
      this.#tell(update.event);
    }
  }

  /** Notes what an update says. */
  #know(update: HappenedUpdate | SyncedUpdate): void {
    this.#number = update.number;
    if (update.type === "synced") {
      this.synced = update.on;
      this.bell.ring();
    } else if (update.event.type === "setting") {
      const { entity, setting } = update.event;
      this.settings.set(entity, { entity, ...setting });
    } else if (update.event.type === "state") {
      this.user = update.user ?? this.user;
      this.#note(update.event.state, update.event.err);
    }
  }

  #tell(ev: Event): void {
    if (ev.type === "send") {
      this.sendings.reached(ev);
    }
    if (ev.type !== "entry" || this.session.feed === undefined) {
      [...(this.#listeners.get(ev.type) ?? [])].forEach((listener) => callApp(listener, ev));
    }
    [...this.#queues].forEach((q) => q.push(ev));
  }

  #note(state: State, err: Error | undefined): void {
    this.state = state;
    this.sendings.stop(
      state === "stopped" ? (pimErrorOf(err) ?? new PimError("unknown", err?.message ?? "stopped")) : undefined,
    );
    this.bell.ring();
  }

  /** Reads everything anew, because updates were missed. Of what they told, the app hears that it may have happened. */
  #reset(): void {
    this.#early = [];
    const again = async (): Promise<void> => {
      const { session } = this;
      const settle = this.sendings.reset();
      const [started, outbox, rows] = await Promise.all([session.start(), session.outbox(""), session.rows()]);
      const ended = await session.ended(settle.left(outbox));
      this.#begin(started);
      settle.with(outbox, ended);
      this.#tell({ type: "state", state: started.state, ...(started.err && { err: started.err }) });
      this.#tell({ type: "list", conversations: rows.map((row) => row.id) });
    };
    again().catch(() => this.#takeEarly()); // the session has ended, or another reset follows
  }

  /** Says whether the app takes its events. */
  #hold(): void {
    const full = [...this.#queues].some((q) => q.full);
    if (full !== this.#held) {
      this.#held = full;
      this.session.hold(full);
    }
  }
}
