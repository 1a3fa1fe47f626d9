import type { Conversation, Batch, SendEvent, Snapshot, Stored } from "../engine/types.js";
import { type ConversationID, type Entry, type Fold, type Millis, PimError, type Place, type Seq } from "../pim/index.js";

/**
 * The local storage of one device of one user. test/storetest.ts is the suite that every Store passes.
 *
 * All methods may be called while others run. What they return is the caller's; entries and folds never change. Except where
 * it is said, whatever is thrown is a PimError: "corrupt" if something stored cannot be read, "disk_full" if there is no room.
 */
export interface Store {
  /**
   * Takes the store for one Client, until release is called or the process ends. It throws a PimError of kind "conflict" if
   * another Client has the store, in this process or, as far as the store can see that, in another one.
   */
  claim(): Promise<Release>;
  /** Returns everything except the entries; the Snapshot of an empty store if the store is new. */
  load(): Promise<Snapshot>;
  /**
   * Makes the changes of b, all of them or, if it throws, none. When it has returned they survive whatever the store promises
   * to survive. b and what it refers to may be kept, and must not be changed by the caller.
   *
   * It may be called before earlier calls have returned: changes are made in the order of the calls, and a store may make those
   * that wait in one go. If one fails, those that wait behind it fail too, because they may build on it. A read sees what was
   * applied when it was called, and either all of a Batch or nothing.
   */
  apply(b: Changes): Promise<void>;
  /** Returns what is known of every conversation, sorted by ID (compareText). */
  conversations(): Promise<ConversationRow[]>;
  /** Returns what is known of one conversation; undefined if nothing is. */
  conversation(id: ConversationID): Promise<ConversationRow | undefined>;
  /** Returns, in display order, the last limit entries that are displayed before a place; undefined stands for the end. */
  entries(conversation: ConversationID, before: Place | undefined, limit: number): Promise<Entry[]>;
  /** Returns the entries with the seqs from..to, ascending by seq, the first limit of them. */
  range(conversation: ConversationID, from: Seq, to: Seq, limit: number): Promise<Entry[]>;
  /** Returns the entries whose number is above number, ascending by it, the first limit of them. Those with number 0 never come. */
  since(number: number, limit: number): Promise<Stored[]>;
  /** Returns the entries with seqs up to to, ascending by seq, the last limit of them. */
  below(conversation: ConversationID, to: Seq, limit: number): Promise<Entry[]>;
  /**
   * Returns the entries that are kept aside (Batch.rewinds), ascending by the seqs that they had: without the first skip of
   * them, at most limit.
   */
  former(conversation: ConversationID, skip: number, limit: number): Promise<Entry[]>;
  /** Returns the folds of the messages with the seqs from..to, ascending by seq. */
  folds(conversation: ConversationID, from: Seq, to: Seq): Promise<Fold[]>;
  /**
   * Releases what the store holds. What was applied before is written first. Whatever is called afterwards throws a PimError of
   * kind "unavailable", unless the store says that it can be used again.
   */
  close(): Promise<void>;
  /**
   * Calls on when the store has found out by itself that it cannot be used any more, as a database that a browser has deleted:
   * at most once, with what all methods throw from then on; at once if it is so already. A store that never finds that out by
   * itself has no such method.
   */
  onLost?(on: (err: PimError) => void): void;
}

/** What a Client has a store change. */
export interface Changes extends Batch {
  /** What has become of the messages that leave the outbox. Only a store that tabs share keeps it: DatabaseStore.ended. */
  ended?: readonly SendEvent[];
}

/** Ends a claim. A second call has no effect. */
export type Release = () => void;

/** What a store knows of one conversation. */
export interface ConversationRow extends Conversation {
  /** When the newest of the entries that a Trim has taken away was written; 0: none was. No Batch sets it. */
  goneAt: Millis;
}

/** Claims that hold within this process. */
export class Claims {
  #taken = false;

  /** Takes the claim, as Store.claim does. */
  take(): Release {
    if (this.#taken) {
      throw taken();
    }
    this.#taken = true;
    let mine = true;
    return () => {
      if (mine) {
        mine = this.#taken = false;
      }
    };
  }
}

/** Returns the error of a claim on a store that another Client has. */
export function taken(): PimError {
  return new PimError("conflict", "another Client uses the store: two would send, confirm and store over each other");
}
