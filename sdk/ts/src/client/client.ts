import { type Pending, type Setting as Stored, type State } from "../engine/index.js";
import {
  checkConversationID,
  checkUserID,
  type ClientMessageID,
  type Command,
  CommandKind,
  type ConversationID,
  type DeviceID,
  direct,
  type Entry,
  EntryKind,
  inForce,
  ownUser,
  PimError,
  type Seq,
  type Setting,
  type UserID,
} from "../pim/index.js";
import { checkBoolean, checkInteger, checkList, checkObject, checkText } from "../pim/arguments.js";
import { compareText } from "../pim/text.js";
import { openDatabase } from "../store/idb.js";
import { Memory } from "../store/memory.js";
import { type Store } from "../store/store.js";
import { browserTabs, joinTabs } from "../tabs/open.js";
import { type Answer } from "./confirm.js";
import { Conversation } from "./conversation.js";
import { Core } from "./core.js";
import { type EntryEvent, type Event, type EventOf } from "./events.js";
import { compareInfos, type Info } from "./info.js";
import { LocalSession } from "./local.js";
import { type Checked, checkOptions, type Environment, type Options } from "./options.js";
import { type EventsOptions } from "./queue.js";
import { type Sending } from "./sending.js";
import { type Session } from "./session.js";
import { orAborted, signalOf, type Waiting } from "./wait.js";

/**
 * Checks o, loads the store and starts to connect in the background. Close the client in the end.
 *
 * It throws a PimError: "invalid" if o is not valid, "unsupported" if this environment cannot connect to a server, "conflict" if
 * the store belongs to another user or device or another Client uses it, and the store's own: those of openDatabase, if
 * Options.store is not set. So an app that wants to go on without its database, in a private window, opens again with a Memory.
 */
export function open(o: Options): Promise<Client> {
  return openIn({}, o);
}

/** Does what open does, with what an environment adds. */
export async function openIn(env: Environment, o: Options): Promise<Client> {
  const checked = checkOptions(o, env);
  return new Client(await Core.start(await sessionOf(checked, env), o.device));
}

/** Opens the session that o asks for: with the app's store, with other tabs, or alone with a store of its own. */
async function sessionOf(o: Checked, env: Environment): Promise<Session> {
  const { store, tabs, confirm, watch, peek } = o.options;
  const alone = store !== undefined || o.user === "" || confirm === true || watch === true || peek === true || tabs === false;
  const found = alone ? undefined : (env.tabs ?? browserTabs());
  if (found !== undefined) {
    return joinTabs(o, found);
  }
  if (tabs === true) {
    throw new PimError("unsupported", "Options.tabs: there are no Web Locks, as in pages that were not loaded by HTTPS");
  }
  return LocalSession.open(o, store ?? (await ownStore(o)), store === undefined);
}

/** Opens the store of a client whose app has named none. */
async function ownStore({ user, options: { device, onBlocked } }: Checked): Promise<Store> {
  if (user === "" || typeof indexedDB === "undefined") {
    return new Memory();
  }
  return openDatabase({ user, device, ...(onBlocked && { onBlocked }) });
}

/**
 * One device of a user. It keeps the connection, the outbox and the local store, and connects and reconnects by itself.
 *
 * - A message that Conversation.send has accepted is sent once, whatever the network does. If the store outlives the process, this
 *   holds whatever happens to the process.
 * - An entry is stored before it is handed over, and handed over at most once for a store. With Options.confirm it is handed over
 *   at least once, process after process, until the app has confirmed it.
 * - Messages of a conversation are sent in the order of the calls.
 * - A message that fails, because the server refused it for good or because no answer came for 180 seconds, stays in the outbox
 *   over restarts until the app decides: resend or discard.
 *
 * Methods that give commands (setContact and so on) change what a user keeps on all devices. Without a connection a command takes
 * effect on this device at once (SettingEvent), and on the others later. If a later command makes it pointless before it is
 * transmitted, it is not sent at all. A command that could not be sent for 7 days has failed. Their errors are those of
 * Conversation's methods, and "unavailable" while neither Options.user nor a connection has named the user.
 */
export class Client {
  readonly #core: Core;

  /** Use open. */
  constructor(core: Core) {
    this.#core = core;
  }

  /** The user of this device: Options.user, or the user that a connection has named; empty before that. */
  get user(): UserID {
    return this.#core.user;
  }

  /** The device, as in Options. */
  get device(): DeviceID {
    return this.#core.device;
  }

  /** What the connection is doing. */
  get state(): State {
    return this.#core.state;
  }

  /** Why the client has stopped; undefined if it has not. */
  get stopped(): PimError | undefined {
    return this.#core.stopped;
  }

  /**
   * Has listener called with every event of a type, from now on. What it throws breaks nothing, and is reported like everything
   * that nobody catches. With Options.confirm entries come by events alone. The function that it returns ends that.
   */
  on<T extends Event["type"]>(type: T, listener: (e: EventOf<T>) => void): () => void {
    return this.#core.on(type, listener);
  }

  /**
   * Returns what happens from now on, in order. Whoever calls it at once after open misses nothing. The app must go on taking what
   * it returns: while more events wait than there is room for, the client reads nothing from the network, not even the answers to
   * its messages. The server then drops pushes, and tells the client later to pull: nothing is lost, and memory stays bounded.
   * It ends at close; entries that were not taken by then are in the store.
   */
  events(o: EventsOptions = {}): AsyncIterableIterator<Event> {
    return this.#core.events(o);
  }

  /**
   * Returns a handle on id. It does not check that the conversation exists. It throws a PimError of kind "invalid" if id is no
   * conversation ID.
   */
  conversation(id: ConversationID): Conversation {
    checkConversationID(id);
    return new Conversation(this.#core, id);
  }

  /**
   * Returns a handle on the direct conversation with user. It throws a PimError of kind "unavailable" while the client's own user is
   * not known: neither Options.user nor a connection has named it; and of kind "invalid" if user is no user ID.
   */
  direct(user: UserID): Conversation {
    checkUserID(user);
    return this.conversation(direct(this.#ownUser(), user));
  }

  /**
   * Returns what this device knows of every conversation: pinned ones first, and then by the time of the last entry, the newest
   * first. A conversation whose entries have not come yet has the last of the server's summary. The user's own log is left out.
   */
  async conversations(): Promise<Info[]> {
    this.#core.usable();
    const rows = await this.#core.session.rows();
    const shown = rows.filter((row) => ownUser(row.id) === undefined);
    return shown.map((row) => this.#core.info(row)).sort(compareInfos);
  }

  /** Queues the creation of a group of members and the user. The group's ID is in Sent.conversation. */
  async createGroup(members: readonly UserID[]): Promise<Sending> {
    return this.#core.send({ conversation: "", kind: EntryKind.create, members: checkList("members", members, checkUserID) });
  }

  /**
   * Returns what has not been delivered, in the order in which it was queued: messages, commands, and groups to be created, which
   * have no conversation yet. Messages that have failed are included, and so are those that an earlier process queued.
   */
  async outbox(): Promise<Pending[]> {
    this.#core.usable();
    return this.#core.session.outbox("");
  }

  /**
   * Queues a failed message again. The message keeps its client message ID, so that it still has one effect, and gets a new local
   * time, so that it is displayed at the time when it is sent now. Errors: "not_found" if the message is not in the outbox,
   * "conflict" if it has not failed.
   */
  async resend(id: ClientMessageID): Promise<Sending> {
    return this.#core.queue(id, { type: "resend", id });
  }

  /**
   * Gives up a message that was not transmitted yet, or has failed. A failed message may have reached the server all the same; then
   * its entry still comes. Errors: "not_found" if the message is not in the outbox, "conflict" if it is on its way.
   */
  async discard(id: ClientMessageID): Promise<void> {
    await this.#core.do({ type: "discard", id });
  }

  /** Queues any command. The client sets its known. */
  async do(command: Partial<Command>): Promise<Sending> {
    return this.#core.command(command);
  }

  /**
   * Stores user among the contacts, with a value for the app to choose, such as a name and notes: at most maxCommandValue bytes.
   */
  async setContact(user: UserID, value: Uint8Array): Promise<Sending> {
    return this.do({ kind: CommandKind.contact, subject: user, value });
  }

  /** Removes user from the contacts. It wins over a setContact that another device made without knowing of it. */
  async removeContact(user: UserID): Promise<Sending> {
    return this.do({ kind: CommandKind.contact, subject: user, removed: true });
  }

  /** Returns the user's contacts, sorted by user. */
  contacts(): Setting[] {
    const contacts = [...this.#core.settings.values()].filter((s) => s.kind === CommandKind.contact && inForce(s, 0));
    return contacts.map(withoutEntity).sort((a, b) => compareText(a.subject, b.subject));
  }

  /** Sets whether the server refuses direct messages of user. */
  async block(user: UserID, on = true): Promise<Sending> {
    return this.do({ kind: CommandKind.block, subject: user, removed: !checkBoolean("on", on) });
  }

  /**
   * Says that the user has read the conversation of e up to e. Errors: "invalid" also if e is beyond the newest seq that this device
   * has heard of: read positions only grow, so a position beyond the log would hide all entries to come. See Conversation.markRead.
   */
  async markRead(e: Entry): Promise<Sending> {
    checkConversationID(checkObject("entry", e).conversation);
    return this.#core.markRead(e.conversation, e.seq, e.count, e.allCount);
  }

  /**
   * Sets whether others see how far the user has read. A user who does not show it does not see it of others either. At first every
   * user does. The switch holds once it is acknowledged; a markRead that is given before that, also after this call, may still be
   * shown.
   */
  async setReceipts(on: boolean): Promise<Sending> {
    return this.do({ kind: CommandKind.noReceipts, subject: this.#ownUser(), removed: checkBoolean("on", on) });
  }

  /**
   * Sets whether others see when the user is connected and writes (PresenceEvent, TypingEvent). A user who does not show it does not
   * see it of others either. At first every user does. The switch holds once it is acknowledged.
   */
  async setPresence(on: boolean): Promise<Sending> {
    return this.do({ kind: CommandKind.noPresence, subject: this.#ownUser(), removed: checkBoolean("on", on) });
  }

  /**
   * Returns the setting of an entity of the user's own log (entityOf), commands in the outbox included. It is noSetting if no
   * command names the entity.
   */
  setting(entity: string): Setting {
    return this.#core.setting(entity);
  }

  /**
   * Returns the settings of all entities of the user's own log that are known on this device, sorted by entity, those included that
   * are not in force (inForce).
   */
  settings(): Setting[] {
    return [...this.#core.settings.values()].sort((a, b) => compareText(a.entity, b.entity)).map(withoutEntity);
  }

  /**
   * Says which conversations and users are on the screen, in place of what the last look named: at most 100 together. While they are,
   * events come:
   *
   * - A ReceiptEvent after others have read in a conversation, at most once a second for each. It does not come for what was before:
   *   look first, then ask for receipts, and after each connect (StateEvent) ask again. To a user who gives no receipts none comes.
   * - A TypingEvent while others write in a conversation.
   * - A PresenceEvent for each of users, and another one after it has changed. A user is shown to those who are among the user's
   *   contacts or to whom the user has written directly.
   *
   * The look at a conversation ends if the user is no member, and at a user who is not shown; call look again when that may have
   * changed. What the server refuses is told by a LookEvent. Errors: "too_large", "invalid".
   */
  async look(conversations: readonly ConversationID[], users: readonly UserID[] = []): Promise<void> {
    const look = {
      conversations: checkList("conversations", conversations, checkConversationID),
      users: checkList("users", users, checkUserID),
    };
    await this.#core.do({ type: "look", ...look });
  }

  /**
   * Says that the device is on another network, or has a network again. The client then makes a new connection at once, unless the
   * app has called setOnline(false). name tells networks apart, such as "wifi/home" or "mobile/262-01", and may be empty. For each of
   * up to 16 names the client finds out how far apart heartbeats may be, and stores it.
   *
   * Errors: "invalid" if name has more than 128 bytes; the reason why the client has stopped, if it has (reconnect makes it go on);
   * errClosed; and the failure of the store. After an error nothing has changed.
   */
  async networkChanged(name = ""): Promise<void> {
    await this.#core.do({ type: "networkChanged", name: checkText("name", name) });
  }

  /**
   * Says whether the app wants a connection; a new Client assumes so. After setOnline(false) the state is "offline", and everything
   * that needs no connection goes on: messages are queued. After setOnline(true) the client connects at once. Errors: those of
   * networkChanged, without "invalid".
   */
  async setOnline(on: boolean): Promise<void> {
    await this.#core.do({ type: "online", on: checkBoolean("on", on) });
  }

  /**
   * Says whether a person looks at the app; a new Client assumes not. If so, the client notices a dead connection within about a
   * minute, and what comes in the conversations that are open is read (Conversation.open); if not, heartbeats are rarer, to spare
   * the radio. Errors: errClosed, and the failure of the store.
   */
  async setForeground(on: boolean): Promise<void> {
    this.#core.inFront = checkBoolean("on", on);
    await this.#core.do({ type: "foreground", on });
  }

  /**
   * Makes a new connection at once, with a new token. An app calls it to use a new token without waiting for the next attempt, or
   * before the old token runs out. It is also how a client that has stopped goes on, once the reason is gone or the person wants to:
   * after "replaced" it replaces the other session. After setOnline(false) it does nothing: setOnline(true) connects. Within
   * 2·backoffMin (1 s by default) after a token was refused, the attempt is made when that time is over; if all servers have said
   * that they are overloaded, when the first of them may be asked. Errors: errClosed, and the failure of the store.
   */
  async reconnect(): Promise<void> {
    await this.#core.do({ type: "reconnect" });
  }

  /**
   * Waits until all of this has happened since the last connect: the client has read the server's list of conversations, and has
   * pulled and stored every conversation of the list (with Options.watch: every watched one) up to its newest entry. If the client
   * has stopped, it throws why.
   */
  async synced(o: Waiting = {}): Promise<void> {
    const signal = signalOf(o);
    for (;;) {
      signal?.throwIfAborted();
      this.#core.usable();
      if (this.#core.stopped !== undefined) {
        throw this.#core.stopped;
      }
      if (this.#core.synced) {
        return;
      }
      await orAborted(this.#core.bell.wait(), signal);
    }
  }

  /**
   * Says that the app is done with e and with every entry that was handed over before e: they will not be handed over again. One call
   * may confirm many entries. It queues answers in the same transaction: whenever the process dies, either the entry was confirmed
   * and its answers will be sent, or neither. An answer whose ID is in the outbox is not queued once more. For clients with
   * Options.confirm only. Errors: those of Conversation.send, and "invalid" also if e was not handed over. After an error nothing is
   * confirmed or queued.
   */
  async confirm(e: EntryEvent, ...answers: Answer[]): Promise<Sending[]> {
    const { feed } = this.#core.session;
    if (feed === undefined) {
      throw new PimError("invalid", "without Options.confirm there is nothing to confirm");
    }
    if (checkInteger("number", checkObject("event", e).number) > feed.handed) {
      throw new PimError("invalid", `entry number ${e.number} was not handed over, the last was ${feed.handed}`);
    }
    const out = feed.answersOf(e.entry, answers);
    const ids = out.map((m) => m.id);
    return this.#core.queueAll(ids, { type: "confirm", number: e.number, answers: out });
  }

  /**
   * Follows a conversation from the seq after+1 on: its entries come as EntryEvents. If the server refuses, since the user is not a
   * member, a RefusedEvent comes. For clients with Options.watch only.
   */
  async watch(conversation: ConversationID, after: Seq): Promise<void> {
    checkConversationID(conversation);
    await this.#core.do({ type: "follow", conversation, after: checkInteger("after", after) });
  }

  /**
   * Ends the client. Acknowledgements that wait to be coalesced are transmitted first, if the connection takes them within 250 ms.
   * Messages without an answer stay in the store's outbox. A store of the app's stays open. It may be called more than once.
   */
  async close(): Promise<void> {
    await this.#core.close();
  }

  /** Does what close does, at the end of an "await using". */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ownUser(): UserID {
    if (this.user === "") {
      throw new PimError("unavailable", "the user is not known before the first connection, unless Options.user names it");
    }
    return this.user;
  }
}

/** Returns s as the app sees it. */
function withoutEntity({ entity: _, ...s }: Stored): Setting {
  return s;
}
