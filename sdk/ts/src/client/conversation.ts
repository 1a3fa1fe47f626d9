import { encodeContent, type Content, replyTo, threadOf } from "../content/index.js";
import { type Members, type Outgoing, type Page, type Reader, type Receipts } from "../engine/index.js";
import {
  checkUserID,
  CommandKind,
  type ConversationID,
  dedupWindow,
  type Entry,
  EntryKind,
  maxPageEntries,
  type Millis,
  PimError,
  retentionWithin,
  type Seq,
  type UserID,
} from "../pim/index.js";
import { checkBoolean, checkBytes, checkInteger, checkObject, checkText } from "../pim/arguments.js";
import { noBytes, utf8 } from "../pim/text.js";
import { type Core } from "./core.js";
import { Info, unheardOf } from "./info.js";
import { type Message } from "./message.js";
import { type Sending } from "./sending.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import { signalOf, type Waiting } from "./wait.js";

/** Says whom a message mentions. */
export interface SendOptions {
  /**
   * Users, maxMentions at most: those of them who are members when it is stored count it (Info.mentions). Where in the text they
   * stand is the payload's (TextMention).
   */
  mentions?: readonly UserID[];
  /** It mentions every member. */
  mentionAll?: boolean;
}

/** For how long a conversation keeps its messages, as the server tells it, in milliseconds. 0 as a time is for ever. */
export interface Kept {
  /** The time that holds: the shorter one of what the conversation says and server. */
  inForce: Millis;
  /**
   * The time that holds from `from` on: somebody has said a shorter one, which waits so that others can say otherwise before
   * messages are removed. If from is 0, nothing waits.
   */
  next: Millis;
  from: Millis;
  /** What the last retain of the conversation says. */
  said: Millis;
  /** For how long the server keeps messages at most. */
  server: Millis;
}

/** Says which page Conversation.pull asks for. */
export interface PullOptions extends Waiting {
  /** The first seq; 1 if not set. */
  from?: Seq;
  /** The last seq; the newest if not set. */
  to?: Seq;
  /** At most so many; 100 if not set, at most maxPageEntries. */
  limit?: number;
  /** The newest of them, instead of the oldest. */
  newestFirst?: boolean;
}

/**
 * A handle on one conversation. It is cheap, and holds nothing.
 *
 * What the methods queue is sent whatever happens to the network or the process, as far as the store keeps it, and in the order of
 * the calls; a client that has stopped queues as well. They resolve when it is in the outbox. They throw PimErrors: "invalid",
 * "too_large", "overloaded" when the outbox is full, those of the store, and errClosed.
 */
export class Conversation {
  readonly id: ConversationID;
  readonly #core: Core;

  /** Use Client.conversation or Client.direct. */
  constructor(core: Core, id: ConversationID) {
    this.#core = core;
    this.id = id;
  }

  /** Queues a message. payload is copied. */
  async send(payload: Uint8Array, o: SendOptions = {}): Promise<Sending> {
    const { mentions = [], mentionAll = false } = checkObject("options", o);
    return this.#queue(EntryKind.message, { payload, mentions: mentions as UserID[], mentionAll }); // which is copied
  }

  /** Queues a message whose payload is text, which must not be empty. */
  async sendText(text: string, o: SendOptions = {}): Promise<Sending> {
    return this.send(utf8(checkSaid(text)), o);
  }

  /** Queues a message that says more than a text. It throws as encodeContent does, too. */
  async sendContent(say: Content, o: SendOptions = {}): Promise<Sending> {
    return this.send(encodeContent(say), o);
  }

  /** Queues a message that answers the message to with a text, which must not be empty. It joins the thread that to is in. */
  async reply(to: Entry, text: string, o: SendOptions = {}): Promise<Sending> {
    checkBytes("payload of the entry", checkObject("entry", to).payload);
    return this.sendContent({ text: checkSaid(text), reply: replyTo(to), thread: threadOf(to) }, o);
  }

  // What these methods queue refers to the message at seq. It is sent like a message, offline too, and displayed at once: Views show
  // the message as it will be. If the server refuses it, Sending.wait says why, it leaves the outbox, and the message is displayed
  // as before.

  /** Queues that the message has another payload. Only its sender can edit it, and the server may allow that for a time only. */
  async edit(seq: Seq, payload: Uint8Array): Promise<Sending> {
    return this.#queue(EntryKind.edit, { refers: seq, payload });
  }

  /** Queues that the message has another text, which must not be empty. */
  async editText(seq: Seq, text: string): Promise<Sending> {
    return this.edit(seq, utf8(checkSaid(text)));
  }

  /**
   * Queues that the message is taken back, by its sender or by the owner of the group. Its payload leaves the server and all
   * devices.
   */
  async recall(seq: Seq): Promise<Sending> {
    return this.#queue(EntryKind.recall, { refers: seq });
  }

  /**
   * Queues that the user reacts to the message with text, mostly an emoji (checkReaction); or takes that reaction back, if on is
   * false.
   */
  async react(seq: Seq, text: string, on = true): Promise<Sending> {
    return this.#queue(EntryKind.reaction, {
      refers: seq,
      reaction: checkText("reaction", text),
      removed: !checkBoolean("on", on),
    });
  }

  /** Queues that the message is pinned for all, or no longer. */
  async pinMessage(seq: Seq, on = true): Promise<Sending> {
    return this.#queue(EntryKind.pin, { refers: seq, removed: !checkBoolean("on", on) });
  }

  /**
   * Queues that everything that the user has written up to the seq upTo is erased: on the server before it answers, and on devices
   * when they hear of it. It cannot be undone. Without upTo it is the newest seq that the device has heard of; "not_found" if that
   * is none. The server answers "not_found" if there is nothing to erase. A user who has left a group may erase there; then Sent.seq
   * is 0, because the entry stands where the user may not read.
   */
  async erase(upTo: Seq = 0): Promise<Sending> {
    const refers = checkInteger("upTo", upTo) || (await this.info()).newest;
    if (refers === 0) {
      throw new PimError("not_found", `the device knows of no entry of ${this.id}`);
    }
    return this.#queue(EntryKind.erase, { refers });
  }

  /** Queues the joining of users to the group. */
  async join(...users: UserID[]): Promise<Sending> {
    return this.#queue(EntryKind.join, { members: users });
  }

  /** Queues the leaving of users from the group; without users, the client's own user leaves. */
  async leave(...users: UserID[]): Promise<Sending> {
    return this.#queue(EntryKind.leave, { members: users });
  }

  /**
   * Queues that the messages are kept for age milliseconds, at least dedupWindow, and no longer: what is older is removed from the
   * server and from all devices. 0: for as long as the server keeps messages; it does so for no longer in any case. The owner of a
   * group says so, and either user of a direct conversation. An entry of kind retain tells all members. A shorter time than what
   * holds begins after the server's notice, a day if it is not set otherwise: retention says when. Until then it can be taken back,
   * and nothing is lost.
   */
  async retain(age: Millis): Promise<Sending> {
    if (checkInteger("age", age) !== 0 && age < dedupWindow) {
      throw new PimError("invalid", `messages are kept for at least ${dedupWindow / 86_400_000} days`);
    }
    return this.#queue(EntryKind.retain, { retain: age });
  }

  /** Asks the server for how long the messages are kept. It waits for a connection. */
  async retention(o: Waiting = {}): Promise<Kept> {
    const page = await this.#ask({ from: 1, to: 1, limit: 1, newestFirst: false, changes: true }, o);
    const { retention: said, serverRetain: server } = page;
    const within = retentionWithin(said, server);
    // If both are the same, the server has removed already what the conversation will.
    const waits = said.from !== 0 && within.before !== within.age;
    return {
      inForce: said.from === 0 ? within.age : within.before,
      next: waits ? within.age : 0,
      from: waits ? said.from : 0,
      said: said.age,
      server,
    };
  }

  /**
   * Returns one page straight from the server. It neither reads nor changes the local store, and waits for a connection.
   */
  async pull(o: PullOptions = {}): Promise<Page> {
    const { from = 1, to = 0, limit = 0, newestFirst = false } = checkObject("options", o);
    checkInteger("from", from);
    checkInteger("to", to);
    checkInteger("limit", limit);
    return this.#ask({ from, to, limit, newestFirst: checkBoolean("newestFirst", newestFirst), changes: false }, o);
  }

  /**
   * Asks the server who is in the group now: a page of the members behind the user after, ascending by user. Every member may ask,
   * and is told of all. It waits for a connection. Errors: "not_member", also if the user has left; "invalid" if it is no group.
   */
  async members(after: UserID = "", o: Waiting = {}): Promise<Members> {
    const signal = signalOf(o);
    checkAfter(after);
    this.#core.usable();
    const { members } = await this.#core.session.ask({ type: "askMembers", conversation: this.id, after }, signal);
    return members ?? { members: [], owner: "", next: "" };
  }

  /**
   * Asks the server how far others have read: in a direct conversation what the other user has got and read, in a group how many
   * have read each of the messages from..to, at most 50. It waits for a connection. Errors: "forbidden" while the user gives no
   * receipts (Client.setReceipts); "not_member"; "invalid" if the range is none.
   */
  async receipts(from: Seq, to: Seq, o: Waiting = {}): Promise<Receipts> {
    checkInteger("to", to);
    return this.#receipts(from, to, false, "", o);
  }

  /**
   * Asks the server who has read the message at seq of a group, and who has not: a page of them behind the user after, ascending by
   * user. next is the after of the page that follows, empty on the last page. Errors: those of receipts, and "not_found" if seq is
   * no message.
   */
  async readers(seq: Seq, after: UserID = "", o: Waiting = {}): Promise<{ readers: Reader[]; next: UserID }> {
    const { readers, next } = await this.#receipts(seq, 0, true, after, o);
    return { readers, next };
  }

  /**
   * Says that the user has read everything that this device has heard of. It takes the mark of markUnread away, if this device has
   * heard of it. It returns undefined if there is nothing to mark. What the user sends counts as read, too, with all before it.
   */
  async markRead(): Promise<Sending | undefined> {
    const { newest, count } = await this.info();
    return newest === 0 ? undefined : this.#core.markRead(this.id, newest, count, 0);
  }

  /** Marks the conversation as unread on all devices, until markRead or open. It changes no read position. */
  async markUnread(): Promise<Sending> {
    return this.#command(CommandKind.unread);
  }

  /** Keeps the conversation from notifying until a time; without one, for ever. The app has to honour it. */
  async mute(until: Date | Millis = 0): Promise<Sending> {
    const time = until instanceof Date ? until.getTime() : until;
    return this.#core.command({ kind: CommandKind.mute, subject: this.id, until: time });
  }

  /** Ends a mute. */
  async unmute(): Promise<Sending> {
    return this.#command(CommandKind.mute, true);
  }

  /** Sets whether the conversation stays on top of the list. */
  async pin(on = true): Promise<Sending> {
    return this.#command(CommandKind.pin, !checkBoolean("on", on));
  }

  /**
   * Says that a person reads the conversation, until close. While the app is in the foreground (Client.setForeground), all that the
   * device has of it is read, and so is what comes, at once: nothing of it is ever shown as unread, with a connection or without.
   * The other devices are told about once a second. It takes the mark of markUnread away. What the device has only heard of is not
   * read before it has come: if the person leaves before that, it is unread. Several conversations may be open. A new Client has
   * none. Errors: "invalid" with Options.watch, errClosed, and the failure of the store.
   */
  async open(): Promise<void> {
    await this.#core.do({ type: "reading", conversation: this.id, on: true });
    this.#core.reading.add(this.id);
  }

  /** Says that nobody reads the conversation any more. Errors are those of open. */
  async close(): Promise<void> {
    this.#core.reading.delete(this.id);
    await this.#core.do({ type: "reading", conversation: this.id, on: false });
  }

  /**
   * Lets the other users who look at the conversation know that the user writes there, unless the user shows no presence
   * (Client.setPresence). Call it while a person writes, as often as you like: the server is told once in a second at most, and only
   * if there is a connection.
   */
  async typing(): Promise<void> {
    await this.#core.do({ type: "typing", conversation: this.id });
  }

  /** Returns what this device knows of the conversation. If the device has not heard of it, newest is 0. */
  async info(): Promise<Info> {
    this.#core.usable();
    const [row] = await this.#core.session.rows(this.id);
    return this.#core.info(row ?? unheardOf(this.id));
  }

  /**
   * Returns the message at seq as a View shows it; undefined if this device does not hold it, or if the entry there is no line of a
   * View.
   */
  async message(seq: Seq): Promise<Message | undefined> {
    this.#core.usable();
    checkInteger("seq", seq);
    const { entries, folds, outbox } = await this.#core.session.messages(this.id, seq, seq);
    const line = new Timeline(this.#core.user);
    line.fold(folds);
    line.prepend(entries, true);
    outbox.filter((p) => p.refers === seq).forEach((p) => line.put(p));
    return line.items().find((m) => m.entry.seq === seq);
  }

  /**
   * Opens a View with the last n entries. While it is open, the client pulls what the conversation lacks before anything else. If
   * several Views are open, this holds for the one that was opened last.
   */
  async messages(n: number): Promise<View> {
    const view = new View(this.#core, this.id, checkInteger("n", n));
    await this.#core.open(view);
    return view;
  }

  /** Returns the last n entries in display order, from the local store. */
  async entries(n: number): Promise<Entry[]> {
    this.#core.usable();
    return (await this.#core.session.page(this.id, undefined, checkInteger("n", n))).entries;
  }

  /**
   * Returns the entries above the seq after that the local store has, ascending by seq, at most limit of them (maxPageEntries at
   * most). An empty list says that there are no more at present. The list ends before a stretch that is still being pulled, so an
   * app may keep the last seq as its position, and call again after an EntryEvent. Seqs that are not for the user are left out, and
   * so is a gap that is left to scrolling (Options.lazyGap; not with Options.confirm).
   */
  async entriesAfter(after: Seq, limit = 100): Promise<Entry[]> {
    checkInteger("after", after);
    if (checkInteger("limit", limit, 1) > maxPageEntries) {
      throw new PimError("invalid", `a page of ${limit} entries, at most ${maxPageEntries} are allowed`);
    }
    this.#core.usable();
    return this.#core.session.entriesAfter(this.id, after, limit);
  }

  async #queue(kind: EntryKind, fields: Partial<Outgoing>): Promise<Sending> {
    return this.#core.send({ payload: noBytes, ...fields, conversation: this.id, kind });
  }

  async #command(kind: CommandKind, removed = false): Promise<Sending> {
    return this.#core.command({ kind, subject: this.id, removed });
  }

  async #ask(q: { from: Seq; to: Seq; limit: number; newestFirst: boolean; changes: boolean }, o: Waiting): Promise<Page> {
    const signal = signalOf(o);
    this.#core.usable();
    const { page } = await this.#core.session.ask({ type: "ask", conversation: this.id, ...q }, signal);
    if (page === undefined) {
      throw new PimError("internal", "an answer without a page");
    }
    return page;
  }

  async #receipts(from: Seq, to: Seq, readers: boolean, after: UserID, o: Waiting): Promise<Receipts> {
    const signal = signalOf(o);
    checkInteger("seq", from);
    checkAfter(after);
    this.#core.usable();
    const question = { type: "askReceipts", conversation: this.id, from, to, readers, after } as const;
    const { receipts } = await this.#core.session.ask(question, signal);
    return receipts ?? { delivered: 0, read: 0, readAt: 0, messages: [], readers: [], next: "" };
  }
}

/** Returns the text of a message, which must say something. */
function checkSaid(text: string): string {
  if (checkText("text", text) === "") {
    throw new PimError("invalid", "the text is empty");
  }
  return text;
}

/** Refuses what is neither a user nor empty. */
function checkAfter(after: UserID): void {
  if (after !== "") {
    checkUserID(after);
  }
}
