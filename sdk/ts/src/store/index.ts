// Where a device keeps what it knows.
export { databaseName, type DatabaseOptions, type DatabaseStore, openDatabase } from "./idb.js";
export { Memory, type MemoryOptions } from "./memory.js";
export { Claims, type ConversationRow, type Release, type Store } from "./store.js";
// What a store of the app's own is written with. Some of it has the name of what it is a row of.
export type { Batch, Former, Hole, Meta, Network, Outgoing, Rewind, Snapshot, Stored, Trim } from "../engine/types.js";
export type { Erasure as StoredErasure, Fold as StoredFold, Setting as StoredSetting } from "../engine/types.js";
