import { type ConversationID } from "../pim/index.js";
import { type Duration, never, randomUpTo, second } from "./duration.js";
import { type Outbox, type OutMessage } from "./outbox.js";

// A server that refuses a message for now, and names a time, may speak of that message (its sender has
// written to too many strangers), of the conversation (its writer's queue is full), or of itself. It
// does not say of which, so the outbox finds out:
//
//   - The conversation waits: nothing in it overtakes what was refused. Others go on.
//   - Of the others only half as many messages are in flight as before, and one more with each that is
//     accepted. So if the server refuses all, it is asked by few, however many wait; and if it accepts,
//     soon all are on their way.
//   - If what is sent after that is refused in another conversation, and nothing was accepted in
//     between, the server may speak of itself. Everything waits: a random time up to 1 s, then up to 2, 4, 8
//     and 10 s. The times are random from 0 on, so that a crowd that was refused together does not come
//     together again. Then conversations that were not refused go first: if their messages are accepted,
//     the server did not speak of itself.

/** For how long everything waits, at most. */
const maxHold: Duration = 10 * second;

/** Of Outbox.window, so that one slow answer does not hold up everything. */
const leastWindow = 2;

/** Takes note that m, which is in flight, was refused, and that its conversation is to wait until a time. */
export function spare(o: Outbox, m: OutMessage, until: Duration): void {
  const { mono: now } = o.fx.now;
  const { conversation } = m.out;
  o.spared.set(conversation, Math.max(waitsUntil(o, conversation), until));
  if (m.sentAt < o.toldAt) {
    return; // it was on its way when the last refusal was told, and says the same
  }
  o.window = Math.max(leastWindow, Math.trunc(o.flying.length / 2));
  o.toldAt = now;
  if (o.streak > 0 && conversation === o.toldOf) {
    return;
  }
  o.toldOf = conversation;
  if (++o.streak > 1) {
    o.holdUntil = Math.max(o.holdUntil, now + randomUpTo(Math.min(second * 2 ** (o.streak - 2), maxHold), o.random));
  }
}

/** Takes note that the server has taken a message, or refused it for good. */
export function accepted(o: Outbox): void {
  o.streak = 0;
  o.window++;
}

/** Returns until when a conversation waits, 0 if nothing in it was refused. */
export function waitsUntil(o: Outbox, c: ConversationID): Duration {
  return o.spared.get(c) ?? 0;
}

/** Returns before when m, which was transmitted, is not transmitted again. */
export function againAt(o: Outbox, m: OutMessage): Duration {
  return Math.max(m.retryAt, waitsUntil(o, m.out.conversation), o.holdUntil);
}

/** Returns when something that waits may be transmitted for the first time, at the earliest; never: nothing waits. */
export function goesOn(o: Outbox): Duration {
  const times = [o.holdUntil, ...o.ready.map((l) => waitsUntil(o, l.conversation))];
  return Math.min(never, ...times.filter((at) => at > o.fx.now.mono));
}

/** Reports whether one more message may be in flight. One whose answer is overdue says nothing of the others. */
export function hasRoom(o: Outbox): boolean {
  return o.flying.length < o.limits().inFlight && o.flying.filter((m) => m.resends === 0).length < o.window;
}
