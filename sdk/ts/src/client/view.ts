import { type ConversationID, type DeviceID, type Entry, placeOf, type Seq, type UserID } from "../pim/index.js";
import { checkFunction, checkInteger } from "../pim/arguments.js";
import { type Event, type SendEvent } from "./events.js";
import { type Message } from "./message.js";
import { type AsOf, type HappenedUpdate, type Session, type Update } from "./session.js";
import { Timeline } from "./timeline.js";
import { Bell, callApp, orAborted, signalOf, type Waiting } from "./wait.js";

/** How far apart the seqs are of messages whose folds are read at once. */
const foldsAtOnce = 1000;
/** Above every seq. */
const endSeq: Seq = Number.MAX_SAFE_INTEGER;

/** What a View needs of its Client. */
export interface ViewOwner {
  readonly session: Session;
  readonly user: UserID;
  readonly device: DeviceID;
  /** Takes note that the View is closed. */
  closed(view: View): Promise<void>;
}

/**
 * A live, ordered window on the end of a conversation: its newest entries in display order, and after them the messages in the
 * outbox with their states. An edit, a recall, a reaction or a pin is no line: it changes that of its message. Nothing in it ever
 * changes places, except that a message takes its final place when it is delivered; entries may appear in between. A View grows
 * with the entries that come in, and with older. If a gap is left to scrolling (Options.lazyGap), the View begins anew with the
 * entries after the gap. Close it in the end.
 */
export class View {
  readonly conversation: ConversationID;
  readonly #owner: ViewOwner;
  readonly #size: number; // how many entries it was opened with
  readonly #line: Timeline;
  #skipped: Seq = 0; // the end of the last gap that was left to scrolling
  readonly #listeners = new Set<() => void>();
  readonly #bell = new Bell(); // rings when something has changed, or the View is closed
  #notify = false; // the listeners are about to be called
  #closed = false;

  // A look at the store is as of one update. While one is under way, updates wait, so that they are applied on top of it.
  #held: Update[] | undefined;
  #turn: Promise<unknown> = Promise.resolve(); // the look before
  #older: Promise<unknown> = Promise.resolve(); // the older before
  readonly #stale = new Set<Seq>(); // messages whose folds are to be read
  #foldsDue = false; // a look that reads them is to come

  /** Use Conversation.messages. */
  constructor(owner: ViewOwner, conversation: ConversationID, size: number) {
    this.#owner = owner;
    this.conversation = conversation;
    this.#size = size;
    this.#line = new Timeline(owner.user);
  }

  /**
   * Returns what the View shows now, in display order. The list is the caller's. Lines that have not changed are the same Messages
   * as before.
   */
  items(): Message[] {
    return this.#line.items();
  }

  /**
   * The first seq that retention has left of the conversation: what was displayed before is gone for good. It is 0 if nothing was
   * removed.
   */
  get front(): Seq {
    return this.#line.front;
  }

  /**
   * Adds the n entries displayed before the first, and reports whether there may be more. If the store lacks entries there, they
   * are pulled: it waits for a connection until the signal is aborted.
   */
  async older(n: number, o: Waiting = {}): Promise<boolean> {
    checkInteger("n", n);
    const signal = signalOf(o);
    const older = this.#older.then(() => this.#addOlder(n, signal));
    this.#older = older.catch(() => undefined);
    return older;
  }

  /** Has listener called soon after items has changed. The function that it returns ends that. */
  onChange(listener: () => void): () => void {
    checkFunction("listener", listener);
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /**
   * Returns what items returns, now and whenever it has changed; changes that come while the app is busy are seen together. It ends
   * when the View is closed.
   */
  async *changes(o: Waiting = {}): AsyncIterableIterator<Message[]> {
    const signal = signalOf(o);
    let last: Message[] | undefined;
    while (!this.#closed) {
      signal?.throwIfAborted();
      const items = this.items();
      if (last?.length !== items.length || items.some((m, i) => m !== last?.[i])) {
        last = items;
        yield items;
      } else {
        await orAborted(this.#bell.wait(), signal);
      }
    }
  }

  /** Ends the View. What it shows stays as it is. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#listeners.clear();
      this.#bell.ring();
      await this.#owner.closed(this);
    }
  }

  /** Fills the View from the store: at the beginning, and when what it shows may be wrong. Only a Client calls it. */
  async load(): Promise<void> {
    const n = (): number => Math.max(this.#size, this.#line.length);
    let size = 0;
    const ask = () => {
      size = n();
      return this.#owner.session.page(this.conversation, undefined, size);
    };
    await this.#look(ask, true, ({ entries, folds, skipped, front, outbox }) => {
      this.#line.clear();
      this.#skipped = skipped;
      this.#line.setUser(this.#owner.user);
      this.#line.front = front;
      this.#line.fold(folds);
      const shown = entries.filter((e) => e.seq > skipped);
      this.#line.prepend(shown, entries.length < size && skipped === 0);
      this.#line.putAll(outbox);
      return true;
    });
    await this.#turn; // if another loop leads meanwhile, the page is read once more
  }

  /** Takes an update. Only a Client calls it. */
  take(update: Update): void {
    if (this.#closed) {
      return;
    }
    if (this.#held !== undefined) {
      this.#held.push(update);
    } else if (this.#apply(update)) {
      this.#changed();
    }
  }

  async #addOlder(n: number, signal: AbortSignal | undefined): Promise<boolean> {
    while (n > 0 && !this.#closed) {
      signal?.throwIfAborted();
      let first: Entry | undefined;
      const ask = () => {
        first = this.#line.first();
        const before = first && { place: placeOf(first), seq: first.seq };
        return this.#owner.session.page(this.conversation, before ?? atEnd, n);
      };
      let more = true;
      const { missing } = await this.#look(ask, false, (page) => {
        if (page.missing || this.#line.first()?.seq !== first?.seq) {
          return false; // else the timeline has begun anew meanwhile
        }
        more = page.entries.length === n;
        this.#line.fold(page.folds);
        this.#line.prepend(page.entries, !more);
        return page.entries.length > 0;
      });
      if (!missing) {
        return more;
      }
      await this.#owner.session.fill(this.conversation, first?.seq ?? endSeq, n, signal);
    }
    return true;
  }

  /**
   * Has ask look at the store, in turn, and take change the timeline by that. Updates that come meanwhile are applied before and
   * after, as they belong; with fresh, those before are of no use.
   */
  #look<T extends AsOf>(ask: () => Promise<T>, fresh: boolean, take: (page: T) => boolean): Promise<T> {
    const look = this.#turn.then(async () => {
      const held: Update[] = [];
      this.#held = held;
      let page: T | undefined;
      try {
        page = await ask();
        return page;
      } finally {
        this.#held = undefined;
        if (held.some((update) => update.type === "reset")) {
          this.#reload(); // the page may be of the loop before, whose numbers say nothing now
        } else {
          this.#bring(page, held, fresh, take);
        }
      }
    });
    this.#turn = look.catch(() => undefined);
    return look;
  }

  /** Changes the timeline by a page, if there is one, and by the updates that came while it was read. */
  #bring<T extends AsOf>(page: T | undefined, held: readonly Update[], fresh: boolean, take: (page: T) => boolean): void {
    const at = page?.number ?? 0;
    let changed = false;
    const apply = (update: Update): void => {
      changed = this.#apply(update) || changed;
    };
    if (page !== undefined && !fresh) {
      held.filter((u) => u.number <= at).forEach(apply);
    }
    changed = (page !== undefined && take(page)) || changed;
    held.filter((u) => u.number > at).forEach(apply);
    if (changed) {
      this.#changed();
    }
  }

  /** Brings the timeline up to date, and reports whether it has changed. */
  #apply(update: Update): boolean {
    switch (update.type) {
      case "reset":
        this.#reload();
        return false;
      case "event":
        return this.#show(update.event, update);
      default:
        return false;
    }
  }

  #show(ev: Event, update: HappenedUpdate): boolean {
    if (ev.type === "state") {
      return this.#line.setUser(update.user ?? "");
    }
    if ((ev.type === "entry" ? ev.entry.conversation : "conversation" in ev ? ev.conversation : "") !== this.conversation) {
      return false;
    }
    switch (ev.type) {
      case "entry":
        return this.#showEntry(ev.entry, ev.late, update.skipped ?? 0);
      case "changed":
        this.#stale.add(ev.seq);
        this.#readFolds();
        return false;
      case "erased":
        return this.#line.erase(ev);
      case "rewound":
        this.#reload();
        return false;
      case "trimmed":
        this.#line.trim(ev.front);
        return true;
      case "send":
        return this.#showSend(ev, update);
      default:
        return false;
    }
  }

  #showEntry(e: Entry, late: boolean, skipped: Seq): boolean {
    if (skipped > this.#skipped && !late) {
      this.#skipped = skipped;
      this.#line.skip(skipped, e);
      return true;
    }
    return this.#line.insert(e);
  }

  #showSend(ev: SendEvent, { pending }: HappenedUpdate): boolean {
    if (ev.state === "sent" && ev.sent !== undefined) {
      this.#line.sent(ev.id, ev.sent, this.#owner.device);
      return true;
    }
    if (pending !== undefined) {
      this.#line.put(pending);
      return true;
    }
    // It has left the outbox: it was superseded or discarded, or it refers to a message and has failed. Or a later event says so.
    return ev.state !== "queued" && ev.state !== "sending" && ev.state !== "waiting" && this.#line.drop(ev.id);
  }

  /** Reads the folds of the stale messages, unless that is about to be done. */
  #readFolds(): void {
    if (this.#foldsDue) {
      return;
    }
    this.#foldsDue = true;
    const ask = () => {
      this.#foldsDue = false;
      const from = Math.min(...this.#stale);
      const to = Math.max(...[...this.#stale].filter((seq) => seq <= from + foldsAtOnce));
      const rest = [...this.#stale].filter((seq) => seq > to);
      this.#stale.clear();
      rest.forEach((seq) => this.#stale.add(seq));
      if (rest.length > 0) {
        this.#readFolds();
      }
      return this.#owner.session.folds(this.conversation, from, to);
    };
    this.#look(ask, false, ({ folds }) => {
      this.#line.fold(folds);
      return folds.length > 0;
    }).catch(() => undefined); // the session has ended, or its store has failed: all is told that
  }

  #reload(): void {
    this.load().catch(() => undefined); // as above
  }

  /** Tells those who listen, once for all that changes now. */
  #changed(): void {
    if (this.#notify) {
      return;
    }
    this.#notify = true;
    queueMicrotask(() => {
      this.#notify = false;
      this.#bell.ring();
      [...this.#listeners].forEach((listener) => callApp(listener));
    });
  }
}

/** The end of a conversation, for a View without entries. */
const atEnd = { place: { anchor: endSeq, local: endSeq, seq: endSeq }, seq: endSeq };
