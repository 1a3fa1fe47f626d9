import { type EntryEvent, type Meta, type Outgoing, type Stored } from "../engine/index.js";
import {
  checkConversationID,
  type ClientMessageID,
  clientMessageIDBytes,
  clientMessageIDOf,
  type ConversationID,
  type Entry,
  EntryKind,
  erases,
  parseClientMessageID,
} from "../pim/index.js";
import { checkBytes, checkInteger, checkObject, checkText } from "../pim/arguments.js";
import { newOutgoing } from "../engine/types.js";
import { hmacSHA256 } from "../pim/sha256.js";
import { noBytes, utf8 } from "../pim/text.js";
import { type ErasedEvent, type RewoundEvent } from "./events.js";

/** How many entries are read ahead of an app that confirms them. */
export const feedPage = 100;

/**
 * Hands every entry to an app that confirms entries (Options.confirm), in the order in which they were stored. While the app
 * keeps up, an entry goes straight to the app. Otherwise the entry is read from the store later, so a slow app neither fills the
 * memory nor keeps the network unread. The loop owns the feed; take and wait are for the app's side.
 */
export class Feed {
  #queue: EntryEvent[] = []; // the next entries, at most feedPage
  #read: number; // entries up to this number are in queue, or were handed over
  #stored: number; // the number of the last entry in the store
  #waiting: (() => void)[] = [];
  readonly #key: Uint8Array;
  readonly #more: () => void;
  /** Entries up to this number were handed over. */
  handed: number;

  /**
   * Begins after the last entry that the app has confirmed. more is called when the queue is empty while the store has more.
   */
  constructor(meta: Pick<Meta, "confirms" | "confirmed" | "stored" | "key">, more: () => void) {
    this.#key = meta.key;
    this.#more = more;
    this.#stored = meta.stored;
    // At first the app begins to confirm with the next entry that is stored.
    this.#read = meta.confirms ? meta.confirmed : meta.stored;
    this.handed = this.#read;
  }

  /** Takes an entry that was just stored. */
  add(ev: EntryEvent): void {
    if (this.#read === this.#stored && this.#queue.length < feedPage) {
      this.#queue.push(ev);
      this.#read = ev.number;
    }
    this.#stored = ev.number;
    this.#wake();
  }

  /** Returns the number behind which the store is to be read, if the queue is empty and the store has more. */
  behind(): number | undefined {
    return this.#queue.length === 0 && this.#read < this.#stored ? this.#read : undefined;
  }

  /** Fills the queue from a page of the store. */
  fill(page: readonly Stored[]): void {
    for (const { entry, late, number } of page) {
      this.#queue.push({ type: "entry", entry, late, number });
      this.#read = number;
    }
    if (page.length < feedPage) {
      // that was all
      this.#read = this.#stored;
    }
    this.#wake();
  }

  /** Takes the entries out of the queue that are not in the log any more. */
  rewind(ev: RewoundEvent): void {
    this.#queue = this.#queue.filter(({ entry }) => entry.conversation !== ev.conversation || entry.seq <= ev.after);
  }

  /** Takes the payloads of what is erased. */
  erase(ev: ErasedEvent): void {
    this.#queue = this.#queue.map((e) => {
      const erased = e.entry.conversation === ev.conversation && erases(ev, e.entry);
      return erased ? { ...e, entry: { ...e.entry, payload: noBytes, erased: true } } : e;
    });
  }

  /** Returns the next entry, which is handed over by that; undefined if there is none yet. */
  take(): EntryEvent | undefined {
    const ev = this.#queue.shift();
    if (ev !== undefined) {
      this.handed = ev.number;
    }
    if (this.behind() !== undefined) {
      this.#more();
    }
    return ev;
  }

  /** Calls f once when take may return an entry. */
  wait(f: () => void): void {
    this.#waiting.push(f);
    if (this.#queue.length > 0) {
      this.#wake();
    }
  }

  /** Returns answers to e as they are queued. It throws a PimError if one cannot be. */
  answersOf(e: Entry, answers: readonly Answer[]): Outgoing[] {
    return answers.map((a, n) => {
      const { conversation = e.conversation } = checkObject("answer", a);
      checkConversationID(conversation);
      const said = typeof a.payload === "string" ? utf8(checkText("payload", a.payload)) : checkBytes("payload", a.payload);
      const id = a.id === undefined ? answerID(this.#key, e, n) : parseClientMessageID(a.id);
      return newOutgoing({ id, conversation, kind: EntryKind.message, payload: said.slice() });
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((f) => f());
  }
}

/** A message that an app sends because of an entry (Client.confirm). */
export interface Answer {
  /** Missing: that of the entry. */
  conversation?: ConversationID;
  /** What it says; a text is sent as UTF-8. */
  payload: Uint8Array | string;
  /**
   * The client message ID. If it is missing, it becomes the answerID with a secret that the store keeps. So if the server goes
   * back and an entry comes once more, its answer has the same ID as before. With the answerID of a secret that the app keeps,
   * the ID is the same even after the store was lost.
   */
  id?: ClientMessageID;
}

/**
 * Returns the client message ID of the n-th answer to e. The ID depends on the arguments alone, and has one effect within 7 days.
 * So the answer is appended once in that time, even if the app has forgotten that it sent it. Whoever knows secret can use the
 * IDs first, and so suppress the answers.
 */
export function answerID(secret: Uint8Array, e: Entry, n: number): ClientMessageID {
  const of = clientMessageIDBytes(checkObject("entry", e).clientID);
  checkInteger("n", n);
  const id = hmacSHA256(
    checkBytes("secret", secret),
    Uint8Array.of(...utf8(`${e.conversation} ${e.sender} ${n} `), ...of),
  ).slice(0, 16);
  id.set(of.subarray(0, 6)); // the time of e's UUIDv7: servers keep IDs of a distant time elsewhere
  const view = new DataView(id.buffer);
  view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
  view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
  return clientMessageIDOf(id);
}
