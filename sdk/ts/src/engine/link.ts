import { isRetryable, type Kind, PimError } from "../pim/index.js";
import { byteLength } from "../pim/text.js";
import { Code, codeName, reconnects } from "../wire/index.js";
import { tickOpen } from "./alive.js";
import { maxWindow, timeOf } from "./backoff.js";
import { turnedAway } from "./busy.js";
import { type Duration, millisecond, never, randomUpTo, second } from "./duration.js";
import { type Engine } from "./engine.js";
import { type PIMGoAway } from "./frames.js";
import { maxNetworkName } from "./heartbeat.js";
import { raceFor } from "./race.js";
import { spared, tokenRefused } from "./token.js";
import { suspendOutbox } from "./transmit.js";
import { maxUnanswered } from "./watchdog.js";

/**
 * Where the connection stands.
 *
 *	           time, NetworkChanged, Online
 *	waiting ───────────────────────────────► racing ──Dialled──► greeting ──Welcome──► open
 *	   ▲                                       │                    │                   │
 *	   └─────────── Lost, too late, silent ────┴────────────────────┴───────────────────┘
 *
 * From every phase but stopped, Online without on leads to offline, until Online with it. An end that
 * no further attempt can mend leads to stopped, until Reconnect.
 */
export type Phase = "waiting" | "racing" | "greeting" | "open" | "offline" | "stopped";

/** The state of the connection. */
export interface Link {
  // Where it stands, and when it is dialled next.
  phase: Phase;
  using: number; // greeting, open: the attempt that won
  server: string; // where the attempt using leads
  dialAt: Duration; // waiting: when the next round begins

  // Set while greeting or open.
  greetedAt: Duration; // greeting: when Hello was transmitted
  welcomeBy: Duration; // greeting: when Welcome is overdue
  answered: boolean; // greeting: the server has answered Hello with a refusal

  cause: PimError | undefined; // the last PIMError that answered no request
  stopErr: PimError | undefined; // stopped: why
}

/** Returns a link that was not dialled yet. */
export function newLink(): Link {
  return {
    phase: "waiting",
    using: 0,
    server: "",
    dialAt: never,
    greetedAt: 0,
    welcomeBy: 0,
    answered: false,
    cause: undefined,
    stopErr: undefined,
  };
}

const errNoHandshake = new PimError("timeout", `no server could be reached within ${raceFor / second} s`);
const errNoWelcome = new PimError("timeout", "no Welcome came");
export const errSilent = new PimError("timeout", "the server is silent, a ping was not answered");
export const errUnanswered = new PimError("timeout", `${maxUnanswered} requests in a row were not answered`);
const errNetwork = new PimError("unavailable", "the network has changed");
const errAnew = new PimError("unavailable", "the connection is made anew");
const errOffline = new PimError("unavailable", "offline");

/** Takes the end of an attempt, or of the connection. */
export function lost(e: Engine, attempt: number, why: Error, code: number): void {
  const { link } = e;
  const now = e.fx.now.mono;
  if (link.phase === "racing") {
    const server = e.race.serverOf(attempt);
    const told = server !== undefined && turnedAway(e, server, why, 0);
    if (told) {
      e.race.withdraw(attempt, server).forEach((n) => e.fx.hangUpAttempt(n));
    }
    const verdict = e.race.failed(attempt, told, e.route.next(now));
    if (verdict === "another") {
      dialAnother(e);
    } else if (verdict === "over") {
      retreat(e, why, e.backoff.lost(now));
    }
    return;
  }
  if ((link.phase !== "greeting" && link.phase !== "open") || attempt !== link.using) {
    return; // hung up before
  }
  const err = link.cause ?? why;
  link.answered ||= code !== 0;
  if (tokenRefused(code, link.cause)) {
    e.heart.failed(e.clock.at(e.fx.now));
    const refused = asError(err, Code.unauthorized);
    retreat(e, refused, Math.max(e.backoff.refused(now), e.backoff.askedFor(refused)));
  } else if (code !== 0 && !reconnects(code) && !e.strays.useUp(code, now)) {
    stop(e, asError(err, code));
  } else {
    e.heart.failed(e.clock.at(e.fx.now));
    retreat(e, code === Code.overloaded ? asError(err, code) : err, e.backoff.lost(now));
  }
}

/** Starts a round of attempts to connect. A server that may be dialled must be there. */
export function dial(e: Engine): void {
  e.link.phase = "racing";
  e.link.cause = undefined;
  e.fx.emit({ type: "state", state: "connecting" });
  const now = e.fx.now.mono;
  e.fx.out.dials.push(e.race.begin(now, e.route.take(now)));
}

/**
 * Starts one more attempt of the round, if it may. The servers of those under way may be dialled, so there
 * is one.
 */
function dialAnother(e: Engine): void {
  const now = e.fx.now.mono;
  if (e.race.mayTry(e.route, now)) {
    e.fx.out.dials.push(e.race.attempt(now, e.route.take(now, e.race.servers())));
  }
}

/** Returns err if it is a PimError, and else an error of the kind that code stands for, caused by err. */
function asError(err: Error | undefined, code: number): PimError {
  return err instanceof PimError ? err : closedWith(code, "", err);
}

/** Returns the error of a connection that the server has closed with code, and said text. */
function closedWith(code: number, text: string, cause?: Error): PimError {
  const said = `the server closed the connection: ${codeName(code)}${text}`;
  return new PimError(kindOfCode(code), said, { op: "connect", cause });
}

function kindOfCode(code: number): Kind {
  switch (code) {
    case Code.overloaded:
      return "overloaded";
    case Code.replaced:
      return "replaced";
    case Code.unauthorized:
      return "unauthorized";
    case Code.too_large:
      return "too_large";
    case Code.unsupported:
      return "unsupported";
    default:
      return "invalid";
  }
}

/**
 * Leaves the connection, or the attempts at one; the next round begins after wait, and not before a
 * server may be dialled.
 */
export function retreat(e: Engine, err: Error, wait: Duration): void {
  leave(e, err);
  e.link.phase = "waiting";
  e.link.dialAt = Math.max(e.fx.now.mono + wait, e.route.freeAt().until);
  e.fx.emit({ type: "state", state: "waiting", err, retryIn: e.link.dialAt - e.fx.now.mono });
}

/**
 * Turns err, why the connection is gone, into the reason why a message waits. The kind is always a
 * retryable one, because the message itself was not refused: if it fails in the end, the app may send
 * it again, whatever kept the connection away.
 */
function lossOf(err: Error): PimError {
  if (!(err instanceof PimError)) {
    return new PimError("unavailable", "the connection is lost", { cause: err });
  }
  return isRetryable(err.kind) ? err : new PimError("unavailable", `no connection: ${err.text}`, { cause: err });
}

/**
 * Drops the state of the connection. Frames that were not taken yet are dropped too: the next
 * connection makes the requests in them again.
 */
function leave(e: Engine, err: Error): void {
  const now = e.fx.now.mono;
  if (e.link.phase === "greeting" && !e.link.answered) {
    e.strays.note(now);
  }
  if (e.link.phase === "open") {
    e.heart.used(e.clock.at(e.fx.now));
  }
  e.backoff.left(now);
  e.heart.cutShort();
  for (const n of e.race.end()) {
    e.fx.hangUpAttempt(n);
  }
  e.fx.out.frames = [];
  e.watchdog.left();
  e.pulls.left();
  e.asks.suspend();
  suspendOutbox(e.outbox, lossOf(err));
  e.sync.left();
}

/** Has the connection closed by this side, if there is one. */
function cut(e: Engine): void {
  if (e.link.phase === "greeting" || e.link.phase === "open") {
    e.fx.hangUpAttempt(e.link.using);
  }
}

/** Has the connection closed by this side. The next round begins after wait. */
export function hangUp(e: Engine, err: Error, wait: Duration): void {
  cut(e);
  retreat(e, err, wait);
}

/** Throws why the engine has stopped, if it has. */
export function refuseIfStopped(e: Engine): void {
  if (e.link.phase === "stopped" && e.link.stopErr !== undefined) {
    throw e.link.stopErr;
  }
}

/**
 * Makes the connection anew. What was learned of the heartbeats of the network before holds for that
 * network only. It throws a PimError if that is refused.
 */
export function networkChanged(e: Engine, name: string): void {
  const bytes = byteLength(name);
  if (bytes > maxNetworkName) {
    const text = `the network's name has ${bytes} bytes, at most ${maxNetworkName} are allowed`;
    throw new PimError("invalid", text);
  }
  refuseIfStopped(e);
  cut(e);
  leave(e, errNetwork);
  e.heart.onNetwork(name);
  if (e.link.phase !== "offline") {
    dialAnew(e);
  }
}

/**
 * Makes the connection anew, because the app has a new token, or because a person wants a client that
 * had stopped to go on.
 */
export function reconnect(e: Engine): void {
  if (e.link.phase === "offline") {
    return;
  }
  cut(e);
  leave(e, errAnew);
  dialAnew(e);
}

/**
 * Dials at once, since earlier failures say nothing any more. Only servers that are busy, and a token
 * that was refused a moment ago, still delay it, see spared.
 */
function dialAnew(e: Engine): void {
  e.link.stopErr = undefined;
  e.backoff.forget();
  e.route.reset();
  if (!spared(e)) {
    dial(e);
  }
}

/**
 * Takes Online: whether the app wants a connection. It throws a PimError if the engine has stopped.
 */
export function online(e: Engine, on: boolean): void {
  refuseIfStopped(e);
  if (on !== (e.link.phase === "offline")) {
    return;
  }
  if (on) {
    dialAnew(e);
    return;
  }
  cut(e);
  leave(e, errOffline);
  e.link.phase = "offline";
  e.fx.emit({ type: "state", state: "offline" });
}

/** Gives up connecting, until Reconnect. Messages can still be queued. */
export function stop(e: Engine, err: PimError): void {
  cut(e);
  leave(e, err);
  e.link.phase = "stopped";
  e.link.stopErr = err;
  e.asks.fail(err);
  e.fx.out.filled.push(...e.fills.fail(undefined, err));
  e.fx.emit({ type: "state", state: "stopped", err });
}

/** Takes a PIMGoAway, the server's last frame. */
export function goAway(e: Engine, m: PIMGoAway): void {
  const now = e.fx.now.mono;
  const code = Math.min(m.code, 0xffff);
  const err = reasonOf(m, code, e.link.cause);
  const refused = tokenRefused(code, e.link.cause);
  if (!m.reconnect && !refused && !e.strays.useUp(code, now)) {
    stop(e, err);
    return;
  }
  e.route.divert(m.alternatives);
  let wait = refused ? Math.max(e.backoff.refused(now), e.backoff.askedFor(err)) : e.backoff.lost(now);
  const window = Math.min(m.windowMs * millisecond, maxWindow);
  if (window > 0 && !refused && (code === Code.overloaded || timeOf(err) > 0)) {
    turnedAway(e, e.link.server, err, window); // others may be asked in the usual way
    wait = e.route.freeAt().until > now ? 0 : wait; // the server's window takes the place of the backoff
  } else if (window > 0) {
    wait = Math.max(refused ? wait : 0, randomUpTo(window, e.cfg.random)); // for the next server, too
  }
  hangUp(e, err, wait);
}

/**
 * Returns why the server ends the connection: cause, its last PIMError that answered no request, or
 * else an error made of m and code.
 */
function reasonOf(m: PIMGoAway, code: number, cause: PimError | undefined): PimError {
  if (cause !== undefined) {
    return cause;
  }
  if (m.reconnect && code !== Code.unauthorized) {
    const text = `the server closed the connection: ${codeName(code)}`;
    return new PimError(code === Code.overloaded ? "overloaded" : "unavailable", text, { op: "connect" });
  }
  return closedWith(code, `: ${m.text}`);
}

/** Does what is due for the phase that the connection is in. */
export function tickLink(e: Engine): void {
  const now = e.fx.now.mono;
  switch (e.link.phase) {
    case "waiting":
      if (now >= e.link.dialAt) {
        dial(e);
      }
      break;
    case "racing": {
      const verdict = e.race.due(now);
      if (verdict === "another") {
        dialAnother(e);
      } else if (verdict === "over") {
        retreat(e, e.race.noToken ?? errNoHandshake, e.backoff.lost(now));
      }
      break;
    }
    case "greeting":
      if (!e.paused && now >= e.link.welcomeBy) {
        hangUp(e, errNoWelcome, e.backoff.lost(now));
      }
      break;
    case "open":
      tickOpen(e);
  }
}

/** Returns when tickLink has something to do. */
export function linkDeadline(e: Engine): Duration {
  switch (e.link.phase) {
    case "waiting":
      return e.link.dialAt;
    case "racing":
      return e.race.deadline();
    case "greeting":
      return e.paused ? never : e.link.welcomeBy;
    case "open":
      return Math.min(e.heart.beatAt(), e.paused ? never : e.watchdog.deadline());
    case "offline":
    case "stopped":
      return never;
  }
}
