import { PimError } from "../pim/index.js";
import { type Duration, minute } from "./duration.js";
import { type Engine } from "./engine.js";
import { type Confirm } from "./io.js";
import { newMessage } from "./outbox.js";

// The engine hands an entry over at most once: the process may die between storing the entry and
// handing it over. An app that must not miss any reads on from its store, in the order in which the
// entries were stored. That is not the order of their seqs: a hole is filled below entries that were
// handed over before. So entries are numbered as they are stored, and the app confirms a number. The
// app's answers are queued in the transaction that stores the confirmation: killed at any moment, the
// app has done both or neither.

/** The wait before a page that the server can't read is pulled again. */
export const unreadableAgain: Duration = 10 * minute;

/**
 * Notes that the app confirms from now on. Entries that were stored before count as confirmed.
 */
export function beginConfirming(e: Engine): void {
  const { meta } = e.fx;
  if (!e.cfg.confirms) {
    return;
  }
  if (!meta.confirms) {
    meta.confirms = true;
    meta.confirmed = meta.stored;
  }
  e.fx.metaDirty = true; // key may be new
}

/** Takes Confirm: the number and all answers, or nothing. It throws a PimError if that is refused. */
export function confirm(e: Engine, input: Confirm): void {
  const { meta } = e.fx;
  if (!e.cfg.confirms) {
    throw new PimError("invalid", "without confirms there is nothing to confirm");
  }
  if (input.number > meta.stored) {
    throw new PimError("invalid", `entry number ${input.number} is not stored, the last is ${meta.stored}`);
  }
  for (const answer of e.outbox.checkAnswers(input.answers)) {
    e.outbox.queue(newMessage(answer));
  }
  if (input.number > meta.confirmed) {
    meta.confirmed = input.number;
    e.fx.metaDirty = true;
  }
}
