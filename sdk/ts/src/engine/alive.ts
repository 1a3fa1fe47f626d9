import { type Duration, millis, second } from "./duration.js";
import { askTime, type Engine } from "./engine.js";
import { errSilent, hangUp } from "./link.js";
import { startSync } from "./sync.js";

const sleptAtLeast = 2 * second; // the wall clock went on without the monotonic one

/**
 * Notes that bytes of an incomplete frame came, or went out, at the time at. The line works, and no
 * answer behind that frame can have come. So whatever waits for an answer has its full time from then
 * on.
 */
export function arriving(e: Engine, at: Duration): void {
  const by = at + e.cfg.requestTimeout;
  if (e.link.phase === "greeting") {
    e.link.welcomeBy = Math.max(e.link.welcomeBy, by);
  } else if (e.link.phase === "open") {
    e.watchdog.bytes(at, e.fx.now.mono);
    e.pulls.active.extend(by);
    e.asks.active.extend(by);
    e.sync.extend(by);
    e.outbox.extend(by);
  }
}

/**
 * Transmits the heartbeats and pings that are due, and hangs up a connection that is dead. When the
 * device has slept, a ping is sent at once.
 */
export function tickOpen(e: Engine): void {
  const now = e.fx.now.mono;
  if (now >= e.heart.beatAt()) {
    beat(e);
    return;
  }
  if (e.paused) {
    return;
  }
  switch (e.watchdog.health(now)) {
    case "silent":
      e.heart.failed(e.clock.at(e.fx.now));
      hangUp(e, errSilent, e.backoff.lost(now));
      break;
    case "quiet":
      e.watchdog.probed(now);
      ping(e);
      break;
    case "healthy":
      if (e.jump > millis(sleptAtLeast)) {
        ping(e); // the device has slept; the connection may not have
      }
  }
}

/** Transmits a heartbeat, which announces the next. */
function beat(e: Engine): void {
  const now = e.fx.now.mono;
  e.heart.beat(now, e.paused ? 0 : now - e.fx.lineAt); // paused: nobody knows whether frames have come
  ping(e);
  // Pushes are hints: one that was lost on its way is noticed here (I5).
  startSync(e);
  askTime(e);
}

function ping(e: Engine): void {
  const nonce = e.watchdog.pinged(e.fx.now.mono);
  e.fx.write({ type: "PIMPing", body: { nonce, heartbeatMs: millis(e.heart.every) } });
}

/** Reports whether the server owes an answer. */
export function waitsForAnswer(e: Engine): boolean {
  return e.outbox.waits() || e.pulls.active.waits() || e.asks.active.waits() || e.sync.waits() || e.clock.doubt;
}
