import { type Entry, EntryKind, type Mentioned, namedIn, type UserID } from "../pim/index.js";
import { type FrameInit } from "../wire/index.js";
import { type ConversationState, rowOf } from "./conversation.js";
import { type Duration } from "./duration.js";
import { newOutput, type Output, type Time } from "./io.js";
import { type OutMessage } from "./outbox.js";
import { type Event, type Meta } from "./types.js";

/**
 * Collects what steps leave to be done: the next Output, and the changes that are stored with it. A
 * part that has effects gets a reference to them.
 */
export class Effects {
  /** Of the present step. */
  now: Time = { mono: 0, wall: 0 };
  /** For the next take. */
  out: Output = newOutput();
  /** meta is to be stored. */
  metaDirty = false;
  /** When the last frame passed, either way. */
  lineAt: Duration = 0;

  #rowsDirty: ConversationState[] = []; // their rows are to be stored, see touch
  #nextRequest = 0; // the number of the last request

  readonly #owner: UserID;

  /**
   * meta is as the store has it, or will have it after the next take; owner is Config.user, empty if
   * it names none.
   */
  constructor(
    readonly meta: Meta,
    owner: UserID,
  ) {
    this.#owner = owner;
  }

  /** Returns the output of the steps since the last take. */
  take(): Output {
    if (this.metaDirty) {
      this.out.store.meta = { ...this.meta };
      this.metaDirty = false;
    }
    for (const c of this.#rowsDirty) {
      this.out.store.conversations.push(rowOf(c));
      c.rowDirty = false;
    }
    this.#rowsDirty = [];
    const out = this.out;
    this.out = newOutput();
    return out;
  }

  /** Returns the user of this device, empty if that is not known yet. */
  user(): UserID {
    return this.meta.user || this.#owner;
  }

  emit(ev: Event): void {
    this.out.events.push(ev);
  }

  write(m: FrameInit): void {
    this.lineAt = this.now.mono;
    this.out.frames.push(m);
  }

  /** Returns the number of a new request: a pull, an Ask, or a page of the sync list. */
  request(): number {
    this.#nextRequest++;
    return this.#nextRequest;
  }

  /** Ends an attempt or its connection. If its Dial was not taken yet, that is taken back. */
  hangUpAttempt(n: number): void {
    const dials = this.out.dials.filter((d) => d.attempt !== n);
    if (dials.length === this.out.dials.length) {
      this.out.hangups.push(n);
    }
    this.out.dials = dials;
  }

  /** Stores c's row, as it is at the next take. */
  touch(c: ConversationState): void {
    if (!c.rowDirty) {
      c.rowDirty = true;
      this.#rowsDirty.push(c);
    }
  }

  /** Stores entry, and hands it over. */
  hand(entry: Entry, late: boolean): void {
    this.meta.stored++;
    this.metaDirty = true;
    const number = this.meta.stored;
    this.out.store.entries.push({ entry, number, late });
    this.emit({ type: "entry", entry, late, number });
  }

  /** Puts m's present state into the next output, in place of an earlier state of m that is in it. */
  store(m: OutMessage): void {
    const pending = this.out.store.outbox;
    const at = pending.findLastIndex((p) => p.id === m.out.id);
    if (at >= 0) {
      pending[at] = { ...m.out };
    } else {
      pending.push({ ...m.out });
    }
  }

  /** Takes id out of the store, and out of the next output. */
  unstore(id: string): void {
    this.out.store.outbox = this.out.store.outbox.filter((m) => m.id !== id);
    this.out.store.remove.push(id);
  }

  /**
   * Takes note of an entry of c if it makes everything before it read, on every device alike. A
   * message that the user sent does, since whoever writes has read what came before; so does the entry
   * that made the user a member, since what came before is not for the user.
   */
  reads(c: ConversationState, entry: Entry): void {
    if (entry.seq > c.own && this.makesRead(entry)) {
      c.own = entry.seq;
      c.ownUpTo = entry.count;
      c.ownAll = entry.allCount;
      this.touch(c);
    }
  }

  /** Takes note of what an entry of c tells of mentions. */
  mentions(c: ConversationState, entry: Entry): void {
    if (entry.allCount !== 0 || entry.mentions.length > 0) {
      this.says(c, { named: namedIn(entry, this.user()), all: entry.allCount });
    }
  }

  /** Takes note of what some entry of c, or the sync list, tells of mentions. */
  says(c: ConversationState, m: Mentioned): void {
    if (m.named > c.said.named || m.all > c.said.all) {
      c.said = { named: Math.max(m.named, c.said.named), all: Math.max(m.all, c.said.all) };
      this.touch(c);
    }
  }

  /** Reports whether everything before entry is read. */
  makesRead(entry: Entry): boolean {
    const wrote = entry.kind === EntryKind.message && entry.sender === this.user();
    const joins = entry.kind === EntryKind.create || entry.kind === EntryKind.join;
    return wrote || (joins && entry.members.includes(this.user())) || entry.invited.includes(this.user());
  }
}
