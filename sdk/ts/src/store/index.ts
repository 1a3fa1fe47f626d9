// Where a device keeps what it knows.
export { databaseName, type DatabaseOptions, type DatabaseStore, openDatabase } from "./idb.js";
export { Memory, type MemoryOptions } from "./memory.js";
export type { ConversationRow, Release, Store } from "./store.js";
