import { type Entry, makeEntry, maxPageEntries, type Seq } from "../pim/index.js";
import { type Summary } from "./frames.js";

/**
 * What a comparison needs next.
 *
 * - readStored: read the last page stored entries up to at
 * - askServer: ask the server for its entries, see ask
 * - decided: nothing: same, lost and newest are what was found
 */
export type Task = "readStored" | "askServer" | "decided";

const noEntry = makeEntry({});

/**
 * The comparison of one conversation: it finds the last entry that the device has stored and the server
 * has too. If two logs have the same entry at a seq, they are the same up to there, so this is a binary
 * search, a page at a time.
 *
 * The methods next, read and answered return what the caller has to do (Task). The caller passes the
 * stored entries to read, and each frame of the server's answer to take; behind the last frame it calls
 * answered.
 */
export class Check {
  active = false; // its turn has come
  at: Seq = 0; // the seq at which the present window ends

  same: Entry = noEntry; // the last entry that was found to be the same; seq 0: none
  lost = false; // some stored entry is not on the server
  newest: Seq = 0; // newest seq on the server, from its answers to the comparison
  heard: Seq = 0; // newest seq on the server, from pushes, acks and the sync list meanwhile
  front: Seq = 0; // entries before it were removed by retention: they can't be compared
  listed: Summary | undefined; // what the sync list says meanwhile; undefined: nothing

  // Stored entries up to low are the same on the server; none above high is.
  #low: Seq = 0;
  #high: Seq;
  #top = true; // compare at high next, not in the middle
  #probe = false; // no entry is stored: ask only for the server's newest seq
  #any = false; // some entry is stored
  #gone: Entry = noEntry; // the last stored entry before front that was met; seq 0: none

  // The window that is compared at present.
  #stored: readonly Entry[] = []; // the device's entries
  #found: Entry[] = []; // the server's entries
  #from: Seq = 0; // the server's answer covers the seqs from here on; 0: none yet

  readonly #own: boolean;
  readonly #known: Seq;

  /**
   * Compares a conversation at the position known, page seqs at once. own: it is the user's own log, of
   * which pulls leave superseded commands out.
   */
  constructor(
    own: boolean,
    known: Seq,
    readonly page: number,
  ) {
    this.#own = own;
    this.#known = known;
    this.#high = known;
  }

  /** Goes on: at the end first, then in the middle of the seqs that are left. */
  next(): Task {
    if (this.#low < this.#high) {
      this.at = this.#top ? this.#high : this.#low + Math.trunc((this.#high - this.#low + 1) / 2);
      this.#top = false;
      return "readStored";
    }
    if (!this.#any && !this.#probe && this.#known > 0) {
      this.#probe = true;
      this.at = this.#known;
      return "askServer";
    }
    this.#conclude();
    return "decided";
  }

  /** Takes the stored entries of the next window. */
  read(entries: readonly Entry[]): Task {
    this.#any ||= entries.length > 0;
    const last = entries.at(-1)?.seq ?? 0;
    const window = entries.filter((s) => s.seq > this.#low && s.seq + this.page > last);
    if (window.length === 0) {
      this.#low = this.at;
      return this.next();
    }
    this.#stored = window;
    this.#found = [];
    this.#from = 0;
    return "askServer";
  }

  /** Reports whether the server's answer is needed, or under way. */
  asks(): boolean {
    return this.#stored.length > 0 || this.#probe;
  }

  /**
   * Begins to ask the server, and returns the first and last seq that are asked for. What the server
   * has answered so far, if anything, is void.
   */
  ask(): { first: Seq; last: Seq } {
    this.#found = [];
    this.#from = 0;
    const first = this.#stored[0];
    const last = this.#stored.at(-1);
    if (this.#probe || first === undefined || last === undefined) {
      return { first: this.at, last: this.at };
    }
    return { first: first.seq, last: last.seq };
  }

  /** Takes one frame of the server's answer. */
  take(entries: readonly Entry[], from: Seq, to: Seq, newest: Seq, front: Seq): void {
    this.newest = newest;
    this.front = Math.min(front, newest + 1);
    if (from > to || this.#found.length > maxPageEntries) {
      return;
    }
    this.#found.push(...entries);
    if (this.#from === 0 || from < this.#from) {
      this.#from = from;
    }
  }

  /** Takes note of a seq that the server has. */
  hear(seq: Seq): void {
    this.heard = Math.max(this.heard, seq);
  }

  /**
   * Goes on when the server's answer is complete. If believing is set, the server's store is taken to
   * be the one that it was, and a command of the own log that is missing may be one that a pull leaves
   * out.
   */
  answered(believing: boolean): Task {
    if (this.#probe) {
      this.lost = this.newest < this.#known;
      this.same = makeEntry({ seq: Math.min(this.newest, this.#known) });
      return "decided";
    }
    this.#leaveGone();
    const first = this.#stored[0];
    const last = this.#stored.at(-1);
    if (first === undefined || last === undefined) {
      // what the device has up to here, the server had
      this.#low = this.at;
      this.#found = [];
      return this.next();
    }
    const leftOut = this.#own && believing && this.#isLeftOut(last);
    const common = this.#stored.findLast((s) => this.#found.some((f) => isSame(f, s)));
    if (common === last) {
      this.same = last;
      this.#low = this.at;
    } else if (leftOut) {
      this.#low = this.#high;
    } else if (common !== undefined) {
      this.same = common;
      this.lost = true;
      this.#low = common.seq;
      this.#high = common.seq;
    } else {
      this.lost = true;
      this.#high = Math.max(this.#from, first.seq) - 1;
      if (this.newest < this.#high) {
        this.#high = this.newest;
        this.#top = true;
      }
    }
    this.#stored = [];
    this.#found = [];
    return this.next();
  }

  /** Leaves the entries before the front out of the present window. */
  #leaveGone(): void {
    const last = this.#stored.findLast((s) => s.seq < this.front);
    if (last !== undefined && last.seq > this.#gone.seq) {
      this.#gone = last;
    }
    this.#stored = this.#stored.filter((s) => s.seq >= this.front);
  }

  /**
   * Ends the comparison of a conversation whose front was trimmed: the seqs before the front are taken
   * to be the same, as far as the server has them.
   */
  #conclude(): void {
    if (this.#gone.seq === 0 || this.same.seq >= this.front) {
      return;
    }
    this.lost ||= this.newest < this.#known;
    const at = Math.min(this.front - 1, this.newest, this.#known);
    if (at > this.same.seq) {
      this.same = makeEntry({ seq: at, count: this.#gone.count });
    }
  }

  /**
   * Reports whether last, the last stored command of the own log, may be missing on the server only
   * because it was superseded.
   */
  #isLeftOut(last: Entry): boolean {
    return this.newest > last.seq && !this.#found.some((f) => f.seq === last.seq);
  }

  /** Decides that the server has nothing of the conversation. */
  nothing(): void {
    this.lost = true;
    this.same = noEntry;
    this.newest = 0;
    this.heard = 0;
  }

  /** Decides that nothing is lost, because the server can't be asked at present. */
  putOff(): void {
    this.lost = false;
    this.newest = this.#known;
  }
}

/**
 * Reports whether a stored entry and the server's are one and the same. All times are compared: an
 * entry that was lost and sent again may have the same server time as before, if that was held because
 * the writer's clock was set back.
 */
function isSame(a: Entry, b: Entry): boolean {
  const place = a.seq === b.seq && a.anchor === b.anchor && a.count === b.count;
  const sender = a.clientID === b.clientID && a.sender === b.sender;
  return place && sender && a.server === b.server && a.ahead === b.ahead && a.order === b.order && a.local === b.local;
}
