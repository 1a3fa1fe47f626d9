import type { ConversationID, Entry } from "../pim/index.js";
import { placeOf } from "../pim/index.js";
import { entryData } from "./rows.js";

// The layout of the database. A key path never changes within a version; a later version has a larger number, and upgrade brings
// each earlier one to it. Conversation IDs have no ":" in front of which another one ends, but that does not matter: they are one
// member of a key that is a list.

/** The version of the layout. */
export const version = 1;

/** The object stores. */
export const tables = [
  "single", // by name: "meta", "networks", "owner", the claim that may write, and ["ended", 0…], see DatabaseStore.ended
  "conversations", // by ID: conversationRow
  "ends", // by conversation: where what is stored of its history ends, see End
  "entries", // by conversation and seq: EntryRow
  "folds", // by conversation and target: FoldRow
  "outbox", // by ID: outgoingRow
  "settings", // by entity: settingRow
  "erasures", // by conversation and user: Erasure
  "former", // by conversation and client message ID: FormerRow
] as const;

/** The name of an object store. */
export type Table = (typeof tables)[number];

/** An entry. The members are short because each row has their names. */
export interface EntryRow {
  c: ConversationID;
  s: number; // seq
  /** anchor, L' and seq, negated: getAll goes upwards only, and pages go back in the display order. */
  a: number;
  l: number;
  q: number;
  n?: number; // number, if it has one
  late?: true;
  r?: number; // refers, if it refers to something
  d: Uint8Array; // entryData
}

/** What is made of a message. */
export interface FoldRow {
  c: ConversationID;
  t: number; // target
  n: number; // newestOf
  r?: number; // target, if the message is recalled
  d: Uint8Array; // foldData
}

/** An entry that is kept aside. */
export interface FormerRow {
  c: ConversationID;
  id: string;
  s: number;
  d: Uint8Array;
}

/**
 * The newest stored entry of a conversation, so that the list of all conversations is one read. An entry of more than maxEnd bytes is
 * not written twice.
 */
export interface End {
  c: ConversationID;
  s: number; // its seq; 0: nothing is stored
  d?: Uint8Array; // the entry
  gone: number; // ConversationRow.goneAt
}

/** How many bytes an entry in an End has at most. */
export const maxEnd = 1024;

/** Returns the row of an entry. */
export function entryRow(e: Entry, number: number, late: boolean): EntryRow {
  const { anchor, local, seq } = placeOf(e);
  const row: EntryRow = { c: e.conversation, s: seq, a: -anchor, l: -local, q: -seq, d: entryData(e) };
  if (number > 0) {
    row.n = number;
  }
  if (late) {
    row.late = true;
  }
  if (e.refers > 0) {
    row.r = e.refers;
  }
  return row;
}

/** Brings a database of an earlier version, 0 for none, to the present one. */
export function upgrade(db: IDBDatabase, from: number): void {
  if (from < 1) {
    db.createObjectStore("single");
    db.createObjectStore("conversations", { keyPath: "id" });
    db.createObjectStore("ends", { keyPath: "c" });
    const entries = db.createObjectStore("entries", { keyPath: ["c", "s"] });
    entries.createIndex("shown", ["c", "a", "l", "q"]);
    entries.createIndex("number", "n");
    entries.createIndex("referring", ["c", "r"]);
    const folds = db.createObjectStore("folds", { keyPath: ["c", "t"] });
    folds.createIndex("newest", ["c", "n"]);
    folds.createIndex("recalled", ["c", "r"]);
    db.createObjectStore("outbox", { keyPath: "id" });
    db.createObjectStore("settings", { keyPath: "entity" });
    db.createObjectStore("erasures", { keyPath: ["conversation", "by"] });
    db.createObjectStore("former", { keyPath: ["c", "id"] }).createIndex("seq", ["c", "s", "id"]);
  }
}

/** Returns the keys whose first member is c, and whose second one is from..to. */
export function within(c: ConversationID, from: number, to: number): IDBKeyRange | undefined {
  return from <= to ? IDBKeyRange.bound([c, from], [c, to]) : undefined;
}

/** Returns the keys whose first member is c. A list is above every other key. */
export function allOf(c: ConversationID): IDBKeyRange {
  return IDBKeyRange.bound([c], [c, []]);
}
