// Protocol v1 for a client: frames, bodies, framing. docs/protocol.md is the specification, package wire its Go form. What only
// a server needs of that is not here: lists and pages that are built from stored bytes, and bodies that are read without
// decoding them as a whole.
export type { Init, Plain } from "./codec.js";
export * from "./command.js";
export * from "./entry.js";
export * from "./errors.js";
export * from "./fold.js";
export * from "./frame.js";
