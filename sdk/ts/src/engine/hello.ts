import { PimError, type UserID } from "../pim/index.js";
import { errorOf, type Frame, version } from "../wire/index.js";
import { maxWindow } from "./backoff.js";
import { turnedAway } from "./busy.js";
import { resumeConversations } from "./conversation.js";
import { millis, millisecond } from "./duration.js";
import { type Engine, limitsOf, longestBeat, sample, sampled } from "./engine.js";
import { type PIMErrorBody, type Welcome } from "./frames.js";
import { resumeDoubts } from "./goback.js";
import { goAway, stop } from "./link.js";
import { tellLook } from "./screen.js";
import { resumeSync } from "./sync.js";
import { outboxOpened } from "./transmit.js";

/**
 * Takes an attempt whose transport stands. The first one wins the race and says Hello; later ones are
 * hung up.
 */
export function greet(e: Engine, attempt: number, token: string): void {
  const won = e.race.won(attempt);
  if (won === undefined) {
    e.fx.hangUpAttempt(attempt); // too late
    return;
  }
  for (const n of won.others) {
    e.fx.hangUpAttempt(n);
  }
  const now = e.fx.now.mono;
  e.link.phase = "greeting";
  e.link.using = attempt;
  e.link.server = won.server;
  e.link.answered = false;
  e.link.greetedAt = now;
  e.link.welcomeBy = now + e.cfg.requestTimeout;
  e.fx.write({
    type: "Hello",
    body: {
      version,
      token,
      device: e.cfg.device,
      ackSerial: e.fx.meta.ackSerial,
      agent: e.cfg.agent,
      heartbeatMs: millis(e.heart.wish()),
    },
  });
}

/** Takes a frame that came before a Welcome. */
export function answerToHello(e: Engine, frame: Frame | undefined): void {
  switch (frame?.type) {
    case "Welcome":
      welcome(e, frame.body);
      break;
    case "PIMGoAway":
      e.link.answered = true;
      goAway(e, frame.body);
      break;
    case "PIMError":
      e.link.answered = true;
      saysWhy(e, frame.body);
      break;
  }
}

/**
 * Takes a PIMError that answers no request: why the server is about to end the connection. If it says
 * when to come back, that counts from now on, however the connection ends.
 */
export function saysWhy(e: Engine, m: PIMErrorBody): void {
  e.link.cause = errorOf(m);
  turnedAway(e, e.link.server, e.link.cause, 0);
}

function welcome(e: Engine, w: Welcome): void {
  const { meta } = e.fx;
  const wrong = wrongUser(e, w.user);
  if (wrong !== undefined) {
    stop(e, wrong);
    return;
  }
  e.limits = limitsOf(w.limits);
  e.link.phase = "open";
  if (e.looks.conversations.length + e.looks.users.length > 0) {
    tellLook(e);
  }
  const now = e.fx.now.mono;
  e.watchdog.opened(now);
  e.backoff.opened(now, Math.min(w.reconnectWindowMs * millisecond, maxWindow));
  e.heart.opened(now, longestBeat(e.limits));
  e.route.arrived(e.link.server);
  if (meta.user !== w.user || w.storageBehind) {
    meta.user = w.user;
    meta.fullSync ||= w.storageBehind;
    meta.ackSerial = Math.max(meta.ackSerial, w.ackSerial);
    e.fx.metaDirty = true;
  }
  e.doubts.meet(w);
  e.fx.emit({ type: "state", state: "connected" });
  sampled(e, e.clock.calibrate(e.link.greetedAt, now, w.serverMs));
  sample(e);
  e.heart.mayProbeAgain(e.clock.at(e.fx.now));
  e.heart.used(e.clock.at(e.fx.now));
  outboxOpened(e.outbox);
  resumeDoubts(e);
  resumeConversations(e);
  e.asks.resume();
  resumeSync(e);
}

/** Returns why a Welcome of user is not for this device; undefined if it is. */
function wrongUser(e: Engine, user: UserID): PimError | undefined {
  if (e.cfg.user !== "" && e.cfg.user !== user) {
    return new PimError("unauthorized", `the token is for user ${user}, not ${e.cfg.user}`);
  }
  const owner = e.fx.meta.user;
  if (owner !== "" && owner !== user) {
    return new PimError("conflict", `the token is for user ${user}, the store is user ${owner}'s`);
  }
  return undefined;
}
