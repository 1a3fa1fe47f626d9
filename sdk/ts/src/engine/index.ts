// The client's state machine: pure, without I/O, timers, a clock or randomness of its own. It is the port of package
// client/engine, file by file, with the same words for states, inputs and effects, and is held to the same transcripts.
export { type Config, Engine } from "./engine.js";
export { type Duration, hour, millis, millisecond, minute, second } from "./duration.js";
export type * from "./io.js";
export { messageOf, misses, outboxOf, type Pending, skipped } from "./look.js";
export { frontOf } from "./trim.js";
export * from "./types.js";
