import {
  type Client,
  type ConversationID,
  directUsers,
  type EntryEvent,
  EntryKind,
  isGroup,
  PimError,
  previewOf,
  type UserID,
} from "@pim-im/client";
import { draftOf } from "./keep";
import { type Listed, listOf } from "./list";
import { notify, withdraw } from "./notify";
import { Room } from "./room";
import { Signal } from "./signal";
import { Watch } from "./watch";
import { t } from "./words";

/** What the connection is doing, for people. */
export interface Connection {
  readonly state: Client["state"];
  /** Why there is none. */
  readonly err: Error | undefined;
  /** When it is tried again, by the clock of this page; 0: that is not set. */
  readonly retryAt: number;
}

/** What the page shows of one user's chats: the list, the connection, and the room that is open. */
export class Chat {
  readonly me: Client;
  /** Rings when the list, the connection or the open room's choice has changed. */
  readonly changed = new Signal();
  /** Rings when there is something that a screen reader is to say. */
  readonly said = new Signal();
  announcement = "";
  infos: readonly Listed[] = [];
  /** The list has been read once. */
  ready = false;
  connection: Connection;
  room: Room | undefined;
  /** What the person was refused last, until it is closed. */
  refusal = "";
  /** A person looks at the page. */
  looking = false;
  readonly #watch: Watch;
  readonly #members = new Map<ConversationID, readonly UserID[]>();
  #reading: "no" | "yes" | "again" = "no";
  #opening = 0;

  constructor(me: Client) {
    this.me = me;
    this.#watch = new Watch(me.user);
    this.connection = { state: me.state, err: undefined, retryAt: 0 };
    me.on("state", (e) => {
      this.connection = { state: e.state, err: e.err, retryAt: e.retryIn ? Date.now() + e.retryIn : 0 };
      this.changed.ring();
      if (e.state === "connected") {
        void this.room?.connected();
        this.#readList();
      } else {
        this.room?.disconnected();
      }
    });
    for (const type of ["list", "entry", "changed", "erased", "send", "setting", "rewound", "trimmed", "read"] as const) {
      me.on(type, () => this.#readList());
    }
    me.on("entry", (e) => this.#came(e));
    me.on("read", (e) => withdraw(e.conversation));
    me.on("typing", (e) => this.room?.typing(e));
    me.on("presence", (e) => this.room?.presence(e));
    me.on("receipt", (e) => this.room?.receipt(e));
    this.#readList();
  }

  /** Returns the list's entry for the conversation; undefined if it has none yet. */
  info(id: ConversationID): Listed | undefined {
    return this.infos.find((i) => i.id === id);
  }

  /** Returns what people call the conversation. */
  title(id: ConversationID): string {
    const users = directUsers(id);
    if (users) {
      return users.find((u) => u !== this.me.user) ?? t.you;
    }
    const others = this.#members.get(id)?.filter((u) => u !== this.me.user);
    return others?.length ? others.join(", ") : t.unnamedGroup;
  }

  /** Takes note of who is in a group, for its title. */
  knowMembers(id: ConversationID, members: readonly UserID[]): void {
    this.#members.set(id, members);
    this.changed.ring();
  }

  /** Opens a room, and closes the one that was open. The room shows nothing before it has its messages. */
  async open(id: ConversationID | undefined): Promise<void> {
    if (this.room?.id === id) {
      return;
    }
    const turn = ++this.#opening;
    const room = id === undefined ? undefined : await this.attempt(() => Room.open(this, id));
    if (turn !== this.#opening) {
      void room?.close(); // another one was opened meanwhile
      return;
    }
    const old = this.room;
    this.room = room;
    this.look(this.looking);
    this.changed.ring();
    void old?.close();
    if (id !== undefined) {
      withdraw(id);
    }
  }

  /** Says whether a person looks at the page. What is in sight is read then, and the other tabs notify nobody of it. */
  look(on: boolean): void {
    this.looking = on;
    this.#watch.read(on ? this.room?.id : undefined);
    this.me.setForeground(on).catch(() => undefined); // the client is closed, or its store has failed: a state event says so
  }

  /** Does something for the person, and says why if it is refused. Returns undefined then. */
  async attempt<T>(what: () => Promise<T>): Promise<T | undefined> {
    try {
      return await what();
    } catch (err) {
      this.refuse(err);
      return undefined;
    }
  }

  /** Has what a Sending stands for said to the person if the server refuses it. */
  heed(sending: { wait(): Promise<unknown> } | undefined): void {
    sending?.wait().catch((err: unknown) => this.refuse(err));
  }

  refuse(err: unknown): void {
    this.refusal = t.refused(reasonOf(err));
    this.changed.ring();
  }

  /** Closes what was said of a refusal. */
  forgive(): void {
    this.refusal = "";
    this.changed.ring();
  }

  /** Has a screen reader say text. */
  announce(text: string): void {
    this.announcement = text;
    this.said.ring();
  }

  draft(id: ConversationID): string {
    return draftOf(this.me.user, id);
  }

  /** Reads the list anew: at once, or when the reading that is under way has ended. */
  #readList(): void {
    if (this.#reading !== "no") {
      this.#reading = "again";
      return;
    }
    this.#reading = "yes";
    void Promise.all([this.me.conversations(), this.me.outbox()])
      .then(([infos, outbox]) => {
        this.infos = listOf(infos, outbox);
        this.ready = true;
        this.#learnTitles();
        this.changed.ring();
      })
      .catch(() => undefined) // the client is closed, or its store has failed: a state event says so
      .finally(() => {
        const again = this.#reading === "again";
        this.#reading = "no";
        if (again) {
          setTimeout(() => this.#readList(), 30); // what comes together is shown together
        }
      });
  }

  #learnTitles(): void {
    for (const { id, known, left, invited } of this.infos) {
      if (isGroup(id) && known && !left && !invited && !this.#members.has(id)) {
        this.#members.set(id, []);
        void this.me
          .conversation(id)
          .members()
          .then(({ members }) =>
            this.knowMembers(
              id,
              members.map((m) => m.user),
            ),
          )
          .catch((err: unknown) => isKind(err, "not_member", "not_found") || this.#members.delete(id)); // which has the next change ask again
      }
    }
  }

  #came({ entry, late }: EntryEvent): void {
    if (entry.kind === EntryKind.create || entry.kind === EntryKind.join || entry.kind === EntryKind.leave) {
      this.#members.delete(entry.conversation);
      void this.room?.membersChanged(entry.conversation);
    }
    if (late || entry.kind !== EntryKind.message || entry.sender === this.me.user) {
      return;
    }
    if (this.room?.id === entry.conversation) {
      this.room.wrote(entry.sender);
    }
    const text = previewOf(entry.payload).text;
    if (this.looking && this.room?.id === entry.conversation) {
      this.announce(`${entry.sender}: ${text}`);
      return;
    }
    const named = entry.mentionAll || entry.mentions.some((m) => m.user === this.me.user);
    const info = this.info(entry.conversation);
    if (this.connection.state === "connected" && (!info?.muted || named)) {
      void this.#watch.somewhere(entry.conversation).then((read) => read || notify(entry.conversation, entry.sender, text));
    }
  }
}

/** Reports whether err is of one of the kinds. */
export function isKind(err: unknown, ...kinds: PimError["kind"][]): boolean {
  return err instanceof PimError && kinds.includes(err.kind);
}

/** Reports whether the browser's storage has caused err. */
export function isStoreError(err: unknown): boolean {
  return err instanceof PimError && (err.op === "store" || isStoreError(err.cause));
}

/** Returns why something failed, for people. */
export function reasonOf(err: unknown): string {
  if (typeof err === "object" && err !== null && "text" in err && typeof err.text === "string" && err.text) {
    return err.text;
  }
  return err instanceof Error ? err.message : String(err);
}
