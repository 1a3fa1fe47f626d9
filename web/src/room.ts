import {
  type Content,
  type Conversation,
  type ConversationID,
  directUsers,
  encodeContent,
  EntryKind,
  isGroup,
  type Message,
  noClientMessageID,
  PimError,
  type PresenceEvent,
  type Receipt,
  type ReceiptEvent,
  type Receipts,
  replyTo,
  threadOf,
  type TypingEvent,
  type UserID,
  type View,
} from "@pim-im/client";
import type { Chat } from "./chat";
import { setDraft } from "./keep";
import { mentionsIn } from "./mention";
import { Signal } from "./signal";

/** How many messages a room begins with, and how many older ones come at once. */
const page = 60;
/** How many messages the server tells the receipts of at once. */
const receiptsAtOnce = 50;

/** How long after a user's message, in milliseconds, it is not said that the user writes. */
const justNow = 1000;

/** What the person is doing besides writing something new. */
export type Doing =
  | { readonly type: "reply"; readonly message: Message }
  | { readonly type: "edit"; readonly message: Message; /** What an edit that was refused said. */ readonly text?: string }
  | undefined;

/** One conversation that is open: its messages, who is there, and what the person is about to do. */
export class Room {
  readonly id: ConversationID;
  readonly group: boolean;
  /** The other user of a direct conversation. */
  readonly other: UserID | undefined;
  /** Rings when the messages, or what is known of them, have changed. */
  readonly changed = new Signal();
  items: readonly Message[];
  /** There may be older messages. */
  more = true;
  loading = false;
  /** Older messages were not to be had: they are asked for again when the person scrolls, or with a connection. */
  failed = false;
  writers: readonly UserID[] = [];
  here: PresenceEvent | undefined;
  members: readonly UserID[] = [];
  /** The server says that there is no such group, or that the user is not in it. */
  outside = false;
  owner: UserID = "";
  doing: Doing;
  /** How many messages the person has sent here. With each of them the history goes to its end. */
  sent = 0;
  /** How far the other user of a direct conversation has got and read it. */
  got = { delivered: 0, read: 0 };
  /** What was sent and is not in the outbox yet, and what is typed. Until then all of it is the draft. */
  readonly #leaving: string[] = [];
  #typed = "";
  /** When the last message of each user has come. */
  readonly #wrote = new Map<UserID, number>();
  readonly #counts = new Map<number, Receipt>();
  readonly #chat: Chat;
  readonly #conversation: Conversation;
  readonly #view: View;
  readonly #gone = new AbortController();
  #forget: ReturnType<typeof setTimeout> | undefined;

  private constructor(chat: Chat, conversation: Conversation, view: View) {
    this.#chat = chat;
    this.#conversation = conversation;
    this.#view = view;
    this.id = conversation.id;
    this.group = isGroup(this.id);
    this.other = directUsers(this.id)?.find((u) => u !== chat.me.user);
    this.items = view.items();
    view.onChange(() => {
      const newest = this.#newest();
      this.items = view.items();
      if (this.#newest() !== newest) {
        void this.#askReceipts();
      }
      this.changed.ring();
    });
  }

  /** Opens a room with its newest messages, and says that a person reads it. */
  static async open(chat: Chat, id: ConversationID): Promise<Room> {
    const conversation = chat.me.conversation(id);
    const room = new Room(chat, conversation, await conversation.messages(page));
    await conversation.open();
    void room.connected();
    if (room.items.length < page) {
      void room.older();
    }
    return room;
  }

  /** Ends what open has begun. */
  async close(): Promise<void> {
    this.#gone.abort();
    clearTimeout(this.#forget);
    await Promise.allSettled([this.#view.close(), this.#conversation.close()]);
  }

  /** The first seq that is left of the conversation; 0: nothing was removed. */
  get front(): number {
    return this.#view.front;
  }

  /** The user of this page. */
  get me(): UserID {
    return this.#chat.me.user;
  }

  /** Loads older messages, unless they are being loaded. */
  async older(): Promise<void> {
    if (this.loading || !this.more) {
      return;
    }
    this.loading = true;
    this.failed = false;
    this.changed.ring();
    try {
      this.more = await this.#view.older(page, { signal: this.#gone.signal });
    } catch {
      this.failed = true; // the room is closed, there is no connection, or the store has failed
    } finally {
      this.loading = false;
      this.changed.ring();
    }
  }

  /** Asks for what ends with a connection, or is not kept. */
  async connected(): Promise<void> {
    this.failed = false;
    this.changed.ring();
    await Promise.allSettled([this.#look(), this.#askReceipts(), this.membersChanged(this.id)]);
  }

  #look(): Promise<void> {
    return this.#chat.me.look([this.id], this.other === undefined ? [] : [this.other]);
  }

  /** Asks who is in the group, if it is this one. */
  async membersChanged(id: ConversationID): Promise<void> {
    if (id !== this.id || !this.group) {
      return;
    }
    try {
      const all: UserID[] = [];
      let after: UserID = "";
      do {
        const { members, owner, next } = await this.#conversation.members(after, { signal: this.#gone.signal });
        all.push(...members.map((m) => m.user));
        this.owner = owner;
        after = next;
      } while (after !== "");
      this.members = all;
      this.outside = false;
      this.#chat.knowMembers(this.id, all);
      this.changed.ring();
    } catch (err) {
      // Without a connection nothing is known, and connected asks again.
      if (err instanceof PimError && (err.kind === "not_member" || err.kind === "not_found")) {
        this.outside = true;
        this.changed.ring();
      }
    }
  }

  /** Nobody is known to be there, or to write, without a connection. */
  disconnected(): void {
    clearTimeout(this.#forget);
    this.writers = [];
    this.here = undefined;
    this.changed.ring();
  }

  typing(e: TypingEvent): void {
    if (e.conversation !== this.id) {
      return;
    }
    // What a user wrote before the message that has just come may be told after it.
    this.writers = e.users.filter((u) => Date.now() - (this.#wrote.get(u) ?? 0) > justNow);
    clearTimeout(this.#forget);
    this.#forget = setTimeout(() => {
      this.writers = [];
      this.changed.ring();
    }, 6000);
    this.changed.ring();
  }

  /** A message of sender has come: the user does not write any more. */
  wrote(sender: UserID): void {
    this.#wrote.set(sender, Date.now());
    if (sender === this.other && !this.here) {
      void this.#look(); // a user is shown to those whom the user has written to
    }
    if (this.writers.includes(sender)) {
      this.writers = this.writers.filter((u) => u !== sender);
      this.changed.ring();
    }
  }

  presence(e: PresenceEvent): void {
    if (e.user === this.other) {
      this.here = e;
      this.changed.ring();
    }
  }

  receipt(e: ReceiptEvent): void {
    if (e.conversation === this.id) {
      this.#take(e.receipts);
    }
  }

  /** How many of a group have read the message; undefined if that is not known. */
  count(seq: number): Receipt | undefined {
    return this.#counts.get(seq);
  }

  /** Returns who has read the message of a group, and who has not. */
  async readers(seq: number): Promise<{ read: UserID[]; not: UserID[] }> {
    const read: UserID[] = [];
    const not: UserID[] = [];
    let after: UserID = "";
    do {
      const { readers, next } = await this.#conversation.readers(seq, after, { signal: this.#gone.signal });
      readers.forEach((r) => (r.read ? read : not).push(r.user));
      after = next;
    } while (after !== "");
    return { read, not };
  }

  /** Says that the person is about to reply or edit, or is not any more. */
  begin(doing: Doing): void {
    this.doing = doing;
    this.changed.ring();
  }

  /**
   * Sends what was typed, as what the person was doing. If it is refused, it returns false, and the person is doing that again,
   * unless something else was begun meanwhile.
   */
  async say(text: string): Promise<boolean> {
    const { doing } = this;
    // An edit mentions nobody anew: who has left the group stays mentioned.
    const old = doing?.type === "edit" ? contentOf(doing.message) : undefined;
    const mentioned = old?.mentions?.map((m) => m.user).filter(Boolean) ?? [];
    const { mentions, users, all } = mentionsIn(text, this.group ? [...this.members, ...mentioned] : []);
    const content: Content = { ...old, text, mentions };
    const options = { mentions: users, mentionAll: all };
    this.begin(undefined);
    const editing = doing?.type === "edit";
    if (!editing) {
      this.#leaving.push(text);
      this.keepDraft("");
    }
    const sent = await this.#chat.attempt(async () => {
      if (doing?.type === "edit") {
        this.#chat.heed(await this.#conversation.edit(doing.message.entry.seq, encodeContent(content)));
      } else if (doing) {
        const { entry } = doing.message;
        await this.#conversation.sendContent(
          { ...content, reply: replyTo(entry), thread: threadOf(entry) || entry.seq },
          options,
        );
      } else if (mentions.length > 0) {
        await this.#conversation.sendContent(content, options);
      } else {
        await this.#conversation.sendText(text);
      }
      return true;
    });
    if (!sent && doing && !this.doing) {
      this.begin(doing.type === "edit" ? { ...doing, text } : doing);
    } else if (sent && !editing) {
      this.sent++;
      this.changed.ring();
    }
    if (!editing) {
      this.#leaving.splice(this.#leaving.indexOf(text), 1);
      this.keepDraft(sent ? this.#typed : [text, this.#typed].filter(Boolean).join("\n"));
    }
    return sent ?? false;
  }

  /** Keeps what was typed. What changes a message is no draft. */
  keepDraft(text: string): void {
    if (this.doing?.type !== "edit") {
      this.#typed = text;
      setDraft(this.me, this.id, [...this.#leaving, text].filter(Boolean).join("\n"));
      this.#chat.changed.ring();
    }
  }

  /** Tells others that the person writes. */
  writes(): void {
    this.#conversation.typing().catch(() => undefined); // nobody misses it
  }

  react(message: Message, text: string): void {
    const mine = message.reactions().some((r) => r.text === text && r.mine);
    void this.#order(() => this.#conversation.react(message.entry.seq, text, !mine));
  }

  recall(message: Message): void {
    void this.#order(() => this.#conversation.recall(message.entry.seq));
  }

  resend(message: Message): void {
    void this.#chat.attempt(() => this.#chat.me.resend(message.entry.clientID));
  }

  discard(message: Message): void {
    void this.#chat.attempt(() => this.#chat.me.discard(message.entry.clientID));
  }

  async add(users: readonly UserID[]): Promise<void> {
    await this.#order(() => this.#conversation.join(...users));
  }

  async leave(): Promise<void> {
    await this.#order(() => this.#conversation.leave());
  }

  /** Takes the invitation into this group, or declines it. */
  async answer(yes: boolean): Promise<void> {
    await this.#order(() => (yes ? this.#conversation.join(this.#chat.me.user) : this.#conversation.leave()));
  }

  async mute(on: boolean): Promise<void> {
    await this.#order(() => (on ? this.#conversation.mute() : this.#conversation.unmute()));
  }

  async pin(on: boolean): Promise<void> {
    await this.#order(() => this.#conversation.pin(on));
  }

  async markUnread(): Promise<void> {
    await this.#order(() => this.#conversation.markUnread());
  }

  /** Returns whether the person may change the message in this way. */
  may(what: "reply" | "react" | "edit" | "recall" | "readers", m: Message): boolean {
    const own = m.entry.sender === this.me;
    if (m.entry.kind !== EntryKind.message || m.pending() || m.recalled() || m.erased()) {
      return false;
    }
    switch (what) {
      case "edit":
        return own;
      case "recall":
        return own || (this.group && this.owner === this.me);
      case "readers":
        return own && this.group;
      default:
        return true;
    }
  }

  async #order(what: () => Promise<{ wait(): Promise<unknown> } | undefined>): Promise<void> {
    this.#chat.heed(await this.#chat.attempt(what));
  }

  async #askReceipts(): Promise<void> {
    const to = this.#newest();
    if (to === 0) {
      return;
    }
    try {
      const from = Math.max(1, to - receiptsAtOnce + 1);
      this.#take(await this.#conversation.receipts(from, to, { signal: this.#gone.signal }));
    } catch {
      // No connection, or the user gives no receipts: none are shown.
    }
  }

  #take(receipts: Receipts): void {
    const { delivered, read } = receipts;
    this.got = { delivered: Math.max(this.got.delivered, delivered), read: Math.max(this.got.read, read) };
    receipts.messages.forEach((r) => this.#counts.set(r.seq, r));
    this.changed.ring();
  }

  /** The seq of the newest message of the user that the server has. */
  #newest(): number {
    return this.items.findLast((m) => !m.pending() && m.entry.sender === this.me)?.entry.seq ?? 0;
  }
}

/** Returns what the message says; its text alone, if it cannot be read otherwise. */
export function contentOf(m: Message): Content {
  try {
    return m.content();
  } catch {
    return { text: m.text() };
  }
}

/** The keys of messages. The virtual list asks for those of all messages whenever a row turns out to have another height. */
const keys = new WeakMap<Message, string>();

/** Returns what names the message, as long as it is displayed: from the outbox to the log. me is the user of this page. */
export function keyOf(m: Message, me: UserID): string {
  let key = keys.get(m);
  if (key === undefined) {
    const { clientID, sender, seq } = m.entry;
    key = clientID === noClientMessageID ? `#${seq}` : `${sender || me} ${clientID}`;
    keys.set(m, key);
  }
  return key;
}
