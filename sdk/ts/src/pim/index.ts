// The vocabulary of pim: identifiers, the log entry, errors, the display order, and what entries and commands come to. It is
// the mirror of package pim in the root of the repository, does no I/O, and has the same words and the same rules.
export * from "./command.js";
export * from "./entry.js";
export * from "./erase.js";
export * from "./errors.js";
export * from "./fold.js";
export * from "./id.js";
export * from "./limits.js";
export * from "./mentions.js";
export * from "./order.js";
export * from "./retention.js";
