import { dedupWindow, type Millis, PimError } from "../pim/index.js";
import { type Times } from "./clock.js";
import { type Duration, hour, millis, millisecond, second } from "./duration.js";
import { isPatient, type OutMessage } from "./outbox.js";

/**
 * How long after its first transmission, by whichever process, a message fails. It is the window of
 * the display order (orderWindow): a message that is resent later would stand in a wrong place.
 */
export const giveUpAfter: Duration = 180 * second;
/** How long after it was queued a create, join, leave or command fails. */
const expireAfter: Duration = 7 * 24 * hour;
/**
 * How long before the end of dedupWindow the server counts as having forgotten a message: sent again,
 * the message could be in the log twice.
 */
const forgetMargin: Duration = hour;

/** How old a transmission is when the server may have forgotten it. */
const forgetAfter: Millis = dedupWindow - millis(forgetMargin);

/**
 * Returns how long ago something was, in milliseconds. It was at then by the server's time, and at
 * wall by this device's wall clock; wall is 0 if an earlier process saw it. The clock that has gone on
 * by less counts: neither a server whose clock is a year ahead for a minute, nor a person who sets the
 * device's clock, makes anything old. After a sleep of the device both clocks have gone on.
 */
function since(t: Times, then: Millis, wall: Millis): Millis {
  const age = t.server - then;
  return wall === 0 ? age : Math.min(age, t.wall - wall);
}

/**
 * Says why m must not be transmitted any more, undefined if it may. If backup is set, the store may be
 * a backup that was made while m was queued.
 */
export function tooOld(m: OutMessage, t: Times, backup: boolean): PimError | undefined {
  const queued = since(t, m.out.queued, m.queuedWall);
  if (t.known && isPatient(m) && queued >= millis(expireAfter)) {
    return new PimError("timeout", `it could not be sent within ${expireAfter / (24 * hour)} days`);
  }
  if (t.known && backup && m.state === "queued" && queued >= forgetAfter) {
    // m may have been transmitted after the backup was made.
    return new PimError("timeout", "it may have been sent before the storage was lost");
  }
  const lost = forgotten(m, t);
  if (lost !== undefined) {
    return lost;
  }
  if (m.attempt === 0 && !isPatient(m) && !m.out.again && spent(m, t) === giveUpAfter) {
    const ago = Math.round((t.server - m.out.local) / 1000);
    const text = `no answer came within ${giveUpAfter / second} s of its transmission, which was ${ago} s ago`;
    return new PimError("timeout", text);
  }
  return undefined;
}

/**
 * Returns how much of giveUpAfter has passed since an earlier process transmitted m for the first
 * time; 0 if none has, or while the server's time is not known.
 */
export function spent(m: OutMessage, t: Times): Duration {
  if (m.out.local === 0 || !t.known) {
    return 0;
  }
  return Math.min(Math.max(0, t.server - m.out.local) * millisecond, giveUpAfter);
}

/**
 * Returns an error if m was transmitted so long ago that the server may have forgotten it: sent again,
 * m could be in the log twice. It returns undefined while the server's time is not known; tooOld looks
 * again before m is transmitted.
 */
export function forgotten(m: OutMessage, t: Times): PimError | undefined {
  let first = m.out.first || m.out.local;
  let wall = m.firstWall;
  if (m.out.again) {
    // The server has lost m, so what counts is when m was queued again. And if it has refused m since,
    // it does not have m.
    if (m.out.failed !== undefined && m.out.failed.kind !== "timeout") {
      return undefined;
    }
    first = m.out.queued;
    wall = m.queuedWall;
  }
  const age = since(t, first, wall);
  if (first === 0 || !t.known || age < forgetAfter) {
    return undefined;
  }
  const days = Math.trunc(age / millis(24 * hour));
  return new PimError("timeout", `it was sent ${days} days ago, and the server may not know it any more`);
}
