import { type Pending, type Sent } from "../engine/index.js";
import {
  type ClientMessageID,
  comparePlaces,
  type DeviceID,
  emptyFold,
  type Entry,
  type Erasure,
  erases,
  type Fold,
  foldOf,
  isRecalled,
  makeEntry,
  mergeFolds,
  type Place,
  placeOf,
  type Seq,
  unfold,
  type UserID,
} from "../pim/index.js";
import { noBytes } from "../pim/text.js";
import { Message, refers } from "./message.js";

/** The seq that what this device has sent and the server has not answered counts as: it is displayed as if it were the last. */
const pendingSeq: Seq = 2 ** 52;

/** An entry that a timeline holds. */
interface Line {
  entry: Entry;
  place: Place;
  /** What is shown of it; undefined: to be made anew. */
  message: Message | undefined;
}

/** A message of the outbox that a timeline holds. */
interface Waiting {
  pending: Pending;
  message: Message | undefined;
}

/**
 * A stretch of a conversation up to its end, in display order: entries by their places, and after them the messages in the
 * outbox, in the outbox's order.
 */
export class Timeline {
  /** Retention has removed the entries before it; 0: none. */
  front: Seq = 0;
  #floor: Place | undefined; // entries displayed before it are not held; undefined: all are
  #lines: Line[] = []; // by place
  #bySeq = new Map<Seq, Line>(); // the same lines
  #folds = new Map<Seq, Fold>(); // as stored, of those messages to which others refer
  #waiting: Waiting[] = []; // by number
  #made = new Map<Seq, Place>(); // places of entries that sent made up, until insert sees the entry itself
  #list: Message[] | undefined; // what items returned last; undefined: something has changed since

  #user: UserID;

  /** user is that of this device. */
  constructor(user: UserID) {
    this.#user = user;
  }

  /** Takes the user, whom a connection has named, and reports whether that is new. */
  setUser(user: UserID): boolean {
    if (user === this.#user) {
      return false;
    }
    this.#user = user;
    this.#lines.forEach((line) => this.#touch(line));
    return true;
  }

  /** Returns how many entries are held. */
  get length(): number {
    return this.#lines.length;
  }

  /** Returns the first entry, undefined if there is none. */
  first(): Entry | undefined {
    return this.#lines[0]?.entry;
  }

  /** Forgets all entries, what became of them, and the front; not what is in the outbox. */
  clear(): void {
    this.#lines = [];
    this.#bySeq.clear();
    this.#folds.clear();
    this.#made.clear();
    this.#floor = undefined;
    this.front = 0;
    this.#list = undefined;
  }

  /**
   * Puts e at its place. It replaces what stands for the same message: a message of the outbox, or an entry that was made up from
   * the answer. It reports whether anything has changed.
   */
  insert(e: Entry): boolean {
    let gone = this.drop(e.clientID);
    const place = placeOf(e);
    // The entry of a message that was sent again by hand has the local time of the transmission that was appended, which need
    // not be the last.
    const p = this.#made.get(e.seq);
    if (p !== undefined) {
      this.#made.delete(e.seq);
      if (comparePlaces(p, place) !== 0) {
        this.#removeIf((a) => a.seq === e.seq);
        gone = true;
      }
    }
    if (this.#floor !== undefined && comparePlaces(place, this.#floor) < 0) {
      return gone;
    }
    const at = this.#search(place);
    const known = this.#lines[at];
    const line: Line = { entry: e, place, message: undefined };
    this.#lines.splice(at, known !== undefined && comparePlaces(known.place, place) === 0 ? 1 : 0, line);
    this.#bySeq.set(e.seq, line);
    this.#list = undefined;
    return true;
  }

  /** Begins anew with e. It drops the entries up to the seq to, because they lie below a stretch that is not held. */
  skip(to: Seq, e: Entry): void {
    this.#removeIf((a) => a.seq <= to);
    this.#floor = undefined;
    this.insert(e);
    this.#floor = this.#lines[0]?.place;
  }

  /** Drops the entries before the seq front. */
  trim(front: Seq): void {
    this.front = front;
    this.#removeIf((a) => a.seq < front);
    for (const of of [this.#folds, this.#made]) {
      for (const seq of of.keys()) {
        if (seq < front) {
          of.delete(seq);
        }
      }
    }
  }

  /** Takes what x erases out, and reports whether anything has changed. */
  erase(x: Erasure): boolean {
    let changed = false;
    for (const line of this.#lines) {
      if (erases(x, line.entry)) {
        line.entry = { ...line.entry, payload: noBytes, erased: true };
        this.#touch(line);
        changed = true;
      }
    }
    for (const f of this.#folds.values()) {
      const left = unfold(x, f);
      if (left !== f) {
        this.#setFold(left);
        changed = true;
      }
    }
    return changed;
  }

  /** Removes a message of the outbox, and reports whether there was one. */
  drop(id: ClientMessageID): boolean {
    const at = this.#waiting.findIndex((w) => w.pending.id === id);
    if (at < 0) {
      return false;
    }
    for (const { pending } of this.#waiting.splice(at, 1)) {
      this.#touch(this.#bySeq.get(pending.refers));
    }
    this.#list = undefined;
    return true;
  }

  /** Adds a message of the outbox, or replaces it by its new state. */
  put(p: Pending): void {
    this.drop(p.id);
    const after = this.#waiting.findIndex((w) => w.pending.number > p.number);
    this.#waiting.splice(after < 0 ? this.#waiting.length : after, 0, { pending: p, message: undefined });
    this.#touch(this.#bySeq.get(p.refers));
    this.#list = undefined;
  }

  /** Puts these in place of all messages of the outbox. */
  putAll(outbox: readonly Pending[]): void {
    for (const { pending } of [...this.#waiting]) {
      this.drop(pending.id);
    }
    outbox.forEach((p) => this.put(p));
  }

  /**
   * Replaces a message of the outbox by an entry that it makes up from the server's answer: the entry itself may come later. If
   * retention has removed the entry, nothing takes its place.
   */
  sent(id: ClientMessageID, s: Sent, device: DeviceID): void {
    const p = this.#waiting.find((w) => w.pending.id === id)?.pending;
    if (p === undefined) {
      return;
    }
    if (s.server === 0 || s.seq < this.front) {
      this.drop(id);
      return;
    }
    const { seq, anchor, count, server, ahead, order, allCount } = s;
    const { kind, local, members, payload, mentionAll, refers, reaction, removed, retain } = p;
    const e = makeEntry({
      ...{
        conversation: s.conversation,
        seq,
        anchor,
        count,
        kind,
        sender: this.#user,
        device,
        clientID: id,
        local,
        server,
        ahead,
      },
      ...{ order, members, payload, mentionAll, allCount, refers, reaction, removed, retain },
      mentions: p.mentions.map((user) => ({ user, count: 0 })),
    });
    this.insert(e);
    const part = foldOf(e);
    if (part !== undefined) {
      // the stored fold may follow later
      this.#setFold(mergeFolds(this.#folds.get(refers) ?? emptyFold(refers), part));
    }
    this.#made.set(seq, placeOf(e));
  }

  /** Puts a page of older entries, in display order, before the rest. all: the store has no entry to show before the page. */
  prepend(page: readonly Entry[], all: boolean): void {
    this.#floor = undefined;
    const top = this.#lines[0]?.place;
    // Entries that come before all others, which is mostly all of the page, are put there at once.
    const isOlder = (e: Entry): boolean => !this.#made.has(e.seq) && (top === undefined || comparePlaces(placeOf(e), top) < 0);
    const older = page.filter(isOlder).map((entry): Line => ({ entry, place: placeOf(entry), message: undefined }));
    for (const line of older) {
      this.drop(line.entry.clientID);
      this.#bySeq.set(line.entry.seq, line);
    }
    const rest = page.filter((e) => this.#bySeq.get(e.seq)?.entry !== e);
    this.#lines = [...older, ...this.#lines];
    this.#list = undefined;
    rest.forEach((e) => this.insert(e));
    if (!all) {
      this.#floor = this.#lines[0]?.place;
    }
  }

  /** Puts the folds of some messages in place of what is held of them. */
  fold(folds: readonly Fold[]): void {
    folds.forEach((f) => this.#setFold(f));
  }

  /** Returns all that is held, in display order. What has not changed are the same Messages as before. */
  items(): Message[] {
    this.#list ??= this.#messages();
    return [...this.#list];
  }

  #messages(): Message[] {
    const list: Message[] = [];
    const referring = this.#waiting.map((w) => w.pending).filter((p) => p.refers !== 0 && p.state !== "failed");
    for (const line of this.#lines) {
      if (!refers(line.entry.kind)) {
        list.push((line.message ??= this.#messageOf(line.entry, referring)));
      }
    }
    for (const w of this.#waiting) {
      if (!refers(w.pending.kind)) {
        list.push((w.message ??= this.#waitingMessage(w.pending)));
      }
    }
    return list;
  }

  #messageOf(e: Entry, referring: readonly Pending[]): Message {
    const f = this.#withPending(e.seq, referring);
    const shown = isRecalled(f) && !e.erased ? { ...e, payload: noBytes, erased: true } : e;
    return new Message(shown, "sent", undefined, f, this.#user);
  }

  #waitingMessage(p: Pending): Message {
    const { conversation, kind, members, payload, mentionAll } = p;
    const entry = makeEntry({ conversation, kind, clientID: p.id, local: p.local || p.queued, members, payload, mentionAll });
    return new Message(entry, p.state, p.err, emptyFold(0), this.#user);
  }

  /** Returns the fold of the message at seq with what the outbox says of it. */
  #withPending(seq: Seq, referring: readonly Pending[]): Fold {
    let f = this.#folds.get(seq) ?? emptyFold(seq);
    for (const p of referring) {
      if (p.refers !== seq) {
        continue;
      }
      const { kind, local, payload, refers, reaction, removed } = p;
      const e = {
        seq: pendingSeq + p.number,
        kind,
        sender: this.#user,
        local,
        server: p.queued,
        payload,
        refers,
        reaction,
        removed,
      };
      const part = foldOf(makeEntry(e));
      if (part !== undefined) {
        f = mergeFolds(f, part);
      }
    }
    return f;
  }

  #setFold(f: Fold): void {
    this.#folds.set(f.target, f);
    this.#touch(this.#bySeq.get(f.target));
  }

  /** Notes that what is shown of a line has changed. */
  #touch(line: Line | undefined): void {
    if (line !== undefined) {
      line.message = undefined;
      this.#list = undefined;
    }
  }

  #removeIf(gone: (e: Entry) => boolean): void {
    this.#lines = this.#lines.filter(({ entry }) => {
      const is = gone(entry);
      if (is) {
        this.#bySeq.delete(entry.seq);
      }
      return !is;
    });
    this.#list = undefined;
  }

  /** Returns the index of the first line at place or behind it. */
  #search(place: Place): number {
    let from = 0;
    let to = this.#lines.length;
    while (from < to) {
      const mid = (from + to) >> 1;
      const line = this.#lines[mid];
      if (line !== undefined && comparePlaces(line.place, place) < 0) {
        from = mid + 1;
      } else {
        to = mid;
      }
    }
    return from;
  }
}
