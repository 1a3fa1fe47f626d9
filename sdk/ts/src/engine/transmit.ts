import { type ClientMessageID, clientMessageIDBytes, kindOf, PimError } from "../pim/index.js";
import { type FrameInit } from "../wire/index.js";
import { giveUpAfter, spent, tooOld } from "./age.js";
import { repeatAfter, retryAfterOf } from "./backoff.js";
import { type Times } from "./clock.js";
import { commandOf } from "./commands.js";
import { type Duration, millis, never, randomUpTo, second } from "./duration.js";
import { isPatient, type Lane, nextOf, type Outbox, type OutMessage } from "./outbox.js";
import { accepted, againAt, goesOn, hasRoom, spare, waitsUntil } from "./refused.js";

/**
 * How long each answer may take before the message is sent again by itself. After the last of them the
 * answer is awaited until giveUpAfter.
 */
const resendAfter: readonly Duration[] = [3, 6, 12, 24, 48].map((s) => s * second);

/** How many bytes a second a line is assumed to carry at least. */
const slowLine = 8 << 10;

const errNoAnswer = new PimError("timeout", `no answer from the server within ${giveUpAfter / second} s`);

/** Lets everything be transmitted at once on a new connection. */
export function outboxOpened(o: Outbox): void {
  o.holdUntil = 0;
  o.spared.clear();
  for (const m of o.delayed) {
    m.retryAt = 0;
  }
}

/** Makes the messages in flight wait: the connection is gone. */
export function suspendOutbox(o: Outbox, cause: PimError): void {
  for (const m of o.flying) {
    o.delay(m, 0, cause);
  }
}

/**
 * Sends what may be sent: first the delayed messages whose time has come, then new ones, one of each
 * lane in turn. A new message needs a local time, so it waits while the clock is in doubt. backup is
 * as in tooOld.
 */
export function transmit(o: Outbox, backup: boolean): void {
  const now = o.fx.now.mono;
  if (now < o.holdUntil) {
    return;
  }
  if (o.streak > 0) {
    transmitNew(o, backup, 0);
  }
  for (const m of o.delayed) {
    // fly takes m out of a copy of the list
    if (!hasRoom(o)) {
      break;
    }
    if (now >= againAt(o, m)) {
      fly(o, m, backup); // or it fails
    }
  }
  wakeHeld(o);
  transmitNew(o, backup, now);
}

/**
 * Transmits messages for the first time, one of each lane in turn. Conversations that are spared for longer
 * than until limit wait, and stay ready; if it is 0 so do all of which something was refused.
 */
function transmitNew(o: Outbox, backup: boolean, limit: Duration): void {
  const kept: Lane[] = [];
  while (!o.clock.doubt && hasRoom(o)) {
    const l = o.ready.shift();
    if (l === undefined) {
      break;
    }
    if (waitsUntil(o, l.conversation) > limit) {
      kept.push(l);
      continue;
    }
    l.ready = false;
    const m = nextOf(l);
    if (m !== undefined && !o.held.includes(m)) {
      fly(o, m, backup);
      o.wake(l);
    }
  }
  o.ready.push(...kept);
}

/**
 * Lets the message id, which is queued, wait until a time before it is transmitted. A held message may
 * still be rewritten.
 */
export function hold(o: Outbox, id: ClientMessageID, until: Duration): void {
  const m = o.byID.get(id);
  if (m !== undefined && until > o.fx.now.mono) {
    m.heldUntil = until;
    o.held.push(m);
  }
}

/** Ends the hold of the message id. */
export function release(o: Outbox, id: ClientMessageID): void {
  const m = o.byID.get(id);
  if (m !== undefined) {
    m.heldUntil = 0;
  }
}

/** Ends the holds whose time has come. */
function wakeHeld(o: Outbox): void {
  const due = o.held.filter((m) => m.heldUntil <= o.fx.now.mono);
  o.held = o.held.filter((m) => m.heldUntil > o.fx.now.mono);
  for (const m of due) {
    if (m.lane !== undefined) {
      // it is still in the outbox
      o.wake(m.lane);
    }
  }
}

/** Gives the command m, which was not transmitted yet, another payload. */
export function rewrite(o: Outbox, m: OutMessage, payload: Uint8Array): void {
  o.bytes += payload.length - m.out.payload.length;
  m.out.payload = payload;
  m.command = commandOf(m.out);
  o.fx.store(m);
}

/**
 * Transmits m, or fails it if it is too old. At its first transmission m gets its local time, which is
 * kept from then on. The local time is stored with the same output, so before m is transmitted.
 */
function fly(o: Outbox, m: OutMessage, backup: boolean): void {
  const { fx } = o;
  const now = o.clock.times(fx.now);
  const old = tooOld(m, now, backup);
  if (old !== undefined) {
    o.fail(m, old);
    return;
  }
  if (m.out.local === 0) {
    if (m.out.first === 0) {
      m.firstWall = now.wall;
    }
    m.out.local = o.clock.localTime(fx.now, fx.meta.lastLocal);
    fx.meta.lastLocal = m.out.local;
    fx.metaDirty = true;
    fx.store(m);
  } else if (m.attempt === 0) {
    m.resumed = true;
  }
  if (m.attempt === 0) {
    m.firstAt = fx.now.mono;
    if (!isPatient(m) && !m.out.again) {
      m.giveUpAt = fx.now.mono + giveUpAfter - spent(m, now);
    }
  }
  o.land(m);
  m.attempt++;
  m.state = "sending";
  m.sentAt = fx.now.mono;
  m.cause = undefined;
  o.flying.push(m);
  m.retryAt = fx.now.mono + answerTime(o, m);
  fx.write(requestOf(m, fx.now.mono, now));
  const { id, conversation } = m.out;
  fx.emit({ type: "send", id, conversation, state: "sending", attempt: m.attempt });
}

/** Returns the frame of m's transmission number m.attempt. */
function requestOf(m: OutMessage, mono: Duration, now: Times): FrameInit {
  const { out } = m;
  let age = 0;
  if (m.resumed) {
    age = Math.max(0, now.server - out.local); // as well as this process can know
  } else if (m.attempt > 1) {
    age = Math.max(1, millis(mono - m.firstAt));
  }
  const body = {
    conversation: out.conversation,
    clientMessageId: clientMessageIDBytes(out.id),
    localMs: out.local,
    attempt: m.attempt + Number(m.resumed),
    payload: out.payload,
    kind: out.kind,
    members: out.members,
    ageMs: age,
    refers: out.refers,
    mentions: out.mentions,
    mentionAll: out.mentionAll,
    reaction: out.reaction,
    removed: out.removed,
    retainMs: out.retain,
  };
  return { type: "PIMSendReq", body };
}

/**
 * Returns how long m's answer may take: resendAfter, give or take 20 %, and the time that all payloads
 * in flight take on a slow line. Most of their bytes may wait between here and the server, where the
 * shell does not see them.
 */
function answerTime(o: Outbox, m: OutMessage): Duration {
  const d = resendAfter[Math.min(m.resends, resendAfter.length - 1)] ?? 0;
  const bytes = o.flying.reduce((sum, f) => sum + f.out.payload.length, 0);
  return (d * 4) / 5 + randomUpTo((d * 2) / 5, o.random) + Math.trunc(bytes / slowLine) * second;
}

/**
 * Corrects queued of the messages that were queued before the clock was known. A message that an
 * earlier process has dated in the future, or not at all, counts from now.
 */
export function dateQueued(o: Outbox): void {
  const now = o.clock.at(o.fx.now);
  for (const m of o.ordered()) {
    if (m.rough) {
      m.out.queued = now - millis(o.fx.now.mono - m.roughAt);
      m.rough = false;
    } else if (m.out.queued === 0 || m.out.queued > now) {
      m.out.queued = now;
    } else {
      continue;
    }
    o.fx.store(m);
  }
}

/** Takes the server's refusal of the message id. */
export function rejected(o: Outbox, id: ClientMessageID, err: PimError, retryable: boolean): void {
  const m = o.byID.get(id);
  // If m is queued, it was sent again by hand and has not gone out since. Then "try later" was about
  // the transmission before, and says nothing of m now.
  if (m === undefined || m.state === "failed" || (m.state === "queued" && retryable)) {
    return;
  }
  if (!retryable) {
    accepted(o);
    o.refuse(m, err);
    return;
  }
  m.refusals++;
  let wait = repeatAfter(m.refusals, o.random);
  if (err.retryAfter > 0) {
    // The server told other clients the same: the wait is spread.
    const asked = retryAfterOf(err);
    wait = Math.max(wait, asked + randomUpTo(asked / 4, o.random));
    spare(o, m, o.fx.now.mono + wait);
  }
  o.delay(m, o.fx.now.mono + wait, err);
}

/**
 * Sends again the messages whose answers are overdue, if the connection is open, and fails those that
 * have waited for too long. It returns when the overdue ones were transmitted.
 */
export function tickOutbox(o: Outbox, open: boolean): Duration[] {
  const now = o.fx.now.mono;
  const unanswered: Duration[] = [];
  for (const m of [...o.flying]) {
    // fly puts m at the end of the list, or takes it out
    if (now >= m.giveUpAt) {
      o.fail(m, errNoAnswer);
    } else if (open && now >= againAt(o, m) && mayResend(m)) {
      unanswered.push(m.sentAt);
      m.resends++;
      fly(o, m, false);
    }
  }
  for (const m of [...o.delayed]) {
    if (now >= m.giveUpAt) {
      o.fail(m, reasonOf(m));
    }
  }
  return unanswered;
}

/** Reports whether m is sent again, on this connection, when no answer comes. */
function mayResend(m: OutMessage): boolean {
  return isPatient(m) || m.out.again || m.resends < resendAfter.length;
}

/** Returns why m fails when it has waited for too long. */
function reasonOf(m: OutMessage): PimError {
  return m.cause !== undefined && kindOf(m.cause) !== "unknown" ? m.cause : errNoAnswer;
}

/**
 * Gives every message its full time again: while the shell did not read, for the time paused, no
 * answer could come.
 */
export function outboxResumed(o: Outbox, paused: Duration): void {
  for (const m of o.byID.values()) {
    m.giveUpAt += paused;
  }
  for (const m of o.flying) {
    m.sentAt = o.fx.now.mono;
    m.retryAt = o.fx.now.mono + answerTime(o, m);
  }
}

/**
 * Returns when something is due: open says whether there is a connection, paused that the shell does
 * not read from it.
 */
export function outboxDeadline(o: Outbox, open: boolean, paused: boolean): Duration {
  let at = never;
  if (open) {
    at = goesOn(o);
    for (const m of o.held) {
      at = Math.min(at, Math.max(m.heldUntil, o.holdUntil));
    }
  }
  if (paused) {
    return at;
  }
  for (const m of o.flying) {
    at = Math.min(at, m.giveUpAt);
    if (mayResend(m)) {
      at = Math.min(at, againAt(o, m));
    }
  }
  const room = open && hasRoom(o);
  for (const m of o.delayed) {
    at = Math.min(at, m.giveUpAt);
    if (room) {
      at = Math.min(at, againAt(o, m));
    }
  }
  return at;
}
