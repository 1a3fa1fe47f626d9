import { type ClientMessageID, type ConversationID, type PimError, type Seq } from "../pim/index.js";
import { type Engine } from "./engine.js";
import { holesMiss, skippedBelow } from "./holes.js";
import { type OutMessage } from "./outbox.js";
import { type Outgoing } from "./types.js";

// What a shell may look at between two steps, besides the methods of Engine.

/** A message in the outbox and where it stands. */
export interface Pending extends Outgoing {
  state: OutMessage["state"];
  err: PimError | undefined; // why it waits or has failed
}

function pendingOf(m: OutMessage): Pending {
  return { ...m.out, state: m.state, err: m.out.failed ?? m.cause };
}

/** Returns the message id of the outbox; undefined if it is not there. */
export function messageOf(e: Engine, id: ClientMessageID): Pending | undefined {
  const m = e.outbox.byID.get(id);
  return m && pendingOf(m);
}

/**
 * Returns the messages to a conversation that are in the outbox, in their order; if it is empty, those
 * to all conversations.
 */
export function outboxOf(e: Engine, conversation: ConversationID): Pending[] {
  const all = e.outbox.ordered();
  return all.filter((m) => conversation === "" || m.out.conversation === conversation).map(pendingOf);
}

/** Reports whether a seq of a conversation in from..to is not stored. */
export function misses(e: Engine, conversation: ConversationID, from: Seq, to: Seq): boolean {
  return holesMiss(e.conversations.byID.get(conversation)?.holes ?? [], from, to);
}

/**
 * Returns the last seq of the topmost lazy hole of a conversation that lies below the seq before; 0:
 * there is none.
 */
export function skipped(e: Engine, conversation: ConversationID, before: Seq): Seq {
  return skippedBelow(e.conversations.byID.get(conversation)?.holes ?? [], before);
}
