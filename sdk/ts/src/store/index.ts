// Where a device keeps what it knows.
export { Memory, type MemoryOptions } from "./memory.js";
export type { ConversationRow, Release, Store } from "./store.js";
