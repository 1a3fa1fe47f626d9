import {
  type Ask,
  type AskMembers,
  type AskReceipts,
  type Confirm,
  type Discard,
  type Do,
  type Follow,
  type Foreground,
  type Look,
  type NetworkChanged,
  type Online,
  type Open,
  type Pending,
  type Pulled,
  type Reading,
  type Reconnect,
  type Resend,
  type Send,
  type Setting,
  type State,
  type Typing,
} from "../engine/index.js";
import {
  type ClientMessageID,
  type ConversationID,
  type Entry,
  type Fold,
  type Place,
  type Seq,
  type UserID,
} from "../pim/index.js";
import { type ConversationRow } from "../store/store.js";
import { type Feed } from "./confirm.js";
import { type Event, type SendEvent } from "./events.js";

/** An input of the app for the engine, one that is not answered. */
export type AppInput =
  | Confirm
  | Discard
  | Do
  | Follow
  | Foreground
  | Look
  | NetworkChanged
  | Online
  | Open
  | Reading
  | Reconnect
  | Resend
  | Send
  | Typing;

/** A question to the server, without its id: the session numbers them. */
export type AskInput = Omit<Ask, "id"> | Omit<AskReceipts, "id"> | Omit<AskMembers, "id">;

/**
 * What the API (Client, Conversation, View) is built on: an engine with its store and connection, in this tab (LocalSession) or
 * in another one. Whatever goes in and comes out survives structuredClone, but for the PimErrors that calls reject with.
 *
 * Answers and updates are in one order: what a page has is as of its number, and the updates with greater numbers come on top.
 * A call that is aborted rejects with the signal's reason. After close every call rejects with errClosed.
 */
export interface Session {
  /** Gives the engine an input. It resolves when the store has what the input changes, and rejects with why it is refused. */
  do(input: AppInput): Promise<void>;
  /** Asks the server, and waits for a connection until signal is aborted. It rejects with the err of a Pulled. */
  ask(input: AskInput, signal?: AbortSignal): Promise<Pulled>;
  /** Pulls up to limit entries that are missing below the seq before, and reports whether any are left there. */
  fill(conversation: ConversationID, before: Seq, limit: number, signal?: AbortSignal): Promise<boolean>;

  /** Returns the last limit entries that are displayed before a place, undefined: the end. */
  page(conversation: ConversationID, before: PageStart | undefined, limit: number): Promise<ViewPage>;
  /** Returns what is stored of the messages with these seqs, and what the outbox says of them. */
  messages(conversation: ConversationID, from: Seq, to: Seq): Promise<MessagePage>;
  /** Returns the folds of the messages with the seqs from..to. */
  folds(conversation: ConversationID, from: Seq, to: Seq): Promise<FoldPage>;
  /** Returns what is in the outbox, of all conversations if conversation is empty. */
  outbox(conversation: ConversationID): Promise<Pending[]>;

  /** Returns what has become of those of these messages that have left the outbox lately, in its order, as far as is remembered. */
  ended(ids: readonly ClientMessageID[]): Promise<SendEvent[]>;
  /** Returns what the store knows of every conversation, or of one. */
  rows(conversation?: ConversationID): Promise<ConversationRow[]>;
  /** Returns the entries above the seq after that may be read on without a gap, see Client.entriesAfter. */
  entriesAfter(conversation: ConversationID, after: Seq, limit: number): Promise<Entry[]>;

  /** Returns what a client knows at the beginning. From then on updates tell what changes. */
  start(): Promise<Started>;
  /** Has on called with every update from now on. The function that it returns ends that. */
  listen(on: (update: Update) => void): () => void;
  /** Says that the app does not take its events, or takes them again. Meanwhile nothing is read from the network. */
  hold(on: boolean): void;
  /** With Options.confirm: the entries that the app has not confirmed. */
  readonly feed: Feed | undefined;
  /** Ends the session. It resolves when all is given up that this tab holds. */
  close(): Promise<void>;
}

/** Where a page ends: before the entry at place, which has this seq. */
export interface PageStart {
  place: Place;
  seq: Seq;
}

/** What is as of one moment: after the update with this number, and before the next. */
export interface AsOf {
  number: number;
}

/** A look at a conversation. */
export interface ViewPage extends AsOf {
  entries: Entry[]; // in display order
  folds: Fold[]; // of those of them to which others refer
  /** Some entry is not stored that may belong to this page; then entries is empty. */
  missing: boolean;
  skipped: Seq; // the end of the last gap that is left to scrolling; 0: there is none
  front: Seq;
  outbox: Pending[]; // what is on its way to the conversation
}

/** What is stored of some messages. */
export interface MessagePage extends AsOf {
  entries: Entry[]; // ascending by seq
  folds: Fold[];
  outbox: Pending[]; // what is on its way to the conversation
}

/** Folds, ascending by target. */
export interface FoldPage extends AsOf {
  folds: Fold[];
}

/** What a client knows at the beginning. */
export interface Started extends AsOf {
  user: UserID; // empty: not known yet
  state: State;
  err: Error | undefined; // as of the last StateEvent
  settings: Setting[];
  synced: boolean;
}

/** What has happened, with what a client needs beside the event and only the loop knows. */
export type Update = HappenedUpdate | SyncedUpdate | ResetUpdate;

/** An event has happened. */
export interface HappenedUpdate extends AsOf {
  type: "event";
  event: Event;
  /** Of an entry: the end of the last gap below it that is left to scrolling. */
  skipped?: Seq;
  /** Of a send: the message, while it is in the outbox. */
  pending?: Pending | undefined;
  /** Of a state: the user. */
  user?: UserID;
}

/** All is synced (Client.synced), or no longer. */
export interface SyncedUpdate extends AsOf {
  type: "synced";
  on: boolean;
}

/** Another loop leads now, or updates were missed. What was known is to be read anew: start, pages, outbox. */
export interface ResetUpdate extends AsOf {
  type: "reset";
}
