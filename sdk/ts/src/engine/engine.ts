import {
  type ConversationID,
  type DeviceID,
  maxGroupMembers,
  maxPageEntries,
  maxPayload,
  type Millis,
  PimError,
  type Setting,
  type UserID,
} from "../pim/index.js";
import { errorOf, type Frame } from "../wire/index.js";
import { clientMessageIDOf } from "../pim/index.js";
import { Acks } from "./ack.js";
import { arriving, waitsForAnswer } from "./alive.js";
import { Asks } from "./ask.js";
import { Backoff, maxWindow } from "./backoff.js";
import { pulled, pullFailed, startPulls, tickPulls } from "./catchup.js";
import { Clock, jumpAtLeast, type Sampled } from "./clock.js";
import { settingOf, showPending, takeCommand } from "./commands.js";
import { beginConfirming, confirm } from "./confirm.js";
import { type ConversationState, follow, pushed } from "./conversation.js";
import { Conversations } from "./conversations.js";
import { Doubts } from "./doubts.js";
import { type Duration, millis, millisecond, minute, never, second } from "./duration.js";
import { Effects } from "./effects.js";
import { Fetches } from "./fetch.js";
import { Fills } from "./fills.js";
import { type Foretold } from "./foretold.js";
import { bringBack, countBack, restoreFormer } from "./former.js";
import { type LimitsBody, type PIMErrorBody } from "./frames.js";
import { lazyGap, openConversation, pageSize, takeFill } from "./gaps.js";
import { goOn } from "./goback.js";
import { Heart, maxHeartbeat } from "./heartbeat.js";
import { answerToHello, greet, saysWhy } from "./hello.js";
import { type Input, type Output, type Time } from "./io.js";
import {
  dial,
  errUnanswered,
  goAway,
  hangUp,
  linkDeadline,
  lost,
  networkChanged,
  newLink,
  online,
  reconnect,
  refuseIfStopped,
  tickLink,
} from "./link.js";
import { named } from "./members.js";
import { newMessage, Outbox } from "./outbox.js";
import { Pulls, watchPage } from "./pulls.js";
import { Race } from "./race.js";
import { type BeingRead, inFront, readOn, takeReading } from "./reading.js";
import { told } from "./receipts.js";
import { orUndefined, refusal } from "./refusal.js";
import { Route } from "./route.js";
import { type Looking, presenceEvent, receiptEvent, takeLook, takeTyping, typingEvent } from "./screen.js";
import { left, sent } from "./sent.js";
import { Settings } from "./settings.js";
import { Strays } from "./strays.js";
import { finishSync, startSync, synced, tickSync } from "./sync.js";
import { SyncList } from "./synclist.js";
import { noToken } from "./token.js";
import { dateQueued, outboxDeadline, outboxResumed, rejected, tickOutbox, transmit } from "./transmit.js";
import { type Snapshot, type State } from "./types.js";
import { Watchdog } from "./watchdog.js";
import { Wishes } from "./wishes.js";

/** What does not change while an engine runs. */
export interface Config {
  user: UserID; // if not empty, Welcome must name it
  device: DeviceID;
  agent: string; // for the server's log
  /** The URLs to connect to, at least one; the first is tried first. */
  servers: readonly string[];
  watch: boolean; // no sync, no acknowledgements: only what Follow names
  peek: boolean; // no acknowledgements, and no pulls but of the own log
  /**
   * The app confirms every entry (Confirm). So every hole is filled without a Fill, however long it is.
   */
  confirms: boolean;

  backoffMin: Duration; // bounds of the wait between attempts to connect
  backoffMax: Duration;
  requestTimeout: Duration; // how long the answer to a Hello, a pull or a sync may take; for sends see resendAfter

  page: number; // entries of a pull, and of the longest gap that is not jumped; 0: 100; with watch always 500
  lazyGap: number; // entries of the longest gap that is filled without a Fill; 0: 10,000

  /** Returns a number in [0, 1); for the jitter of waits. */
  random: () => number;
}

/** What the last Welcome named; before the first one they are defaults (limitsOf). */
export interface Limits {
  payload: number;
  page: number;
  inFlight: number;
  members: number;
  idle: Duration;
  heartbeat: Duration; // longest interval that may be announced; 0: announcements are ignored
}

const maxInFlight = 32;
const defaultIdle: Duration = minute;
const minIdle: Duration = second;

/**
 * The state of one device.
 *
 * It is pure: no I/O, no timers, no clock and no randomness of its own. The caller is the shell that
 * gives it a connection, a store and the time. step takes one input at a time. take then returns an
 * Output: what the caller has to do. Several steps may precede one take; what they store is one
 * transaction. For each Output, in this order:
 *
 * 1. Apply store in one transaction, and wait until it is durable before the next duty. If it fails,
 *    stop: the engine is ahead of the store.
 * 2. Transmit frames in order on the connection in use. If a frame cannot be transmitted, report the
 *    connection as lost; the frame needs no attention.
 * 3. Close the connections of the attempts in hangups, and report nothing more of them.
 * 4. For each of dials get a token, dial, and answer with Dialled, NoToken or Lost.
 * 5. Hand over events, filled and pulled in order. While the app does not take them, stop reading from
 *    the connection and say so with Pause.
 * 6. Answer each of reads with FromStore, before any other input.
 *
 * In between, step with Tick when the deadline has come. If a frame is half way in or out at that time,
 * step with Arriving first.
 *
 * The process may die between any two of these actions. client/engine/doc.go says what holds then, and
 * lists the parts: a part is a type with its own state and file, which knows no Engine. The functions
 * that take an Engine join the parts, as "the connection is gone, so what is in flight waits".
 */
export class Engine {
  readonly cfg: Config;
  readonly fx: Effects;
  jump: Millis = 0; // of the wall clock against the monotonic one, since the step before
  #stepped = false; // fx.now is set

  // The connection, and what goes over it.
  readonly link = newLink();
  readonly race = new Race();
  readonly route: Route;
  readonly backoff: Backoff;
  readonly strays = new Strays();
  readonly heart: Heart;
  readonly watchdog: Watchdog;
  limits = limitsOf(undefined);
  readonly clock = new Clock();
  readonly outbox: Outbox;
  readonly sync: SyncList;
  readonly acks: Acks;

  // Conversations and settings, and what is under way to complete them.
  readonly settings: Settings;
  readonly foretold = new Map<string, Foretold>(); // by entity
  readonly conversations: Conversations;
  opened: ConversationID = ""; // the one that a person looks at
  readonly looks: Looking = { conversations: [], users: [], request: 0, typing: "", typedAt: 0 };
  readings: BeingRead[] = []; // those that a person reads, in the order in which that began
  readonly fills = new Fills();
  readonly doubts: Doubts;
  readonly fetches: Fetches;
  former: ConversationState[] = []; // those that may have entries kept aside, by ID
  readonly wishes = new Wishes();
  readonly pulls: Pulls;
  readonly asks: Asks;
  paused = false; // the shell does not read, see Pause
  #pausedAt: Duration = 0; // paused: since when

  /** Goes on from snapshot. The first input is Start. */
  constructor(config: Config, snapshot: Snapshot) {
    const page = config.watch ? watchPage : Math.min(config.page || pageSize, maxPageEntries);
    this.cfg = { ...config, page, lazyGap: config.lazyGap || lazyGap };
    const { random, requestTimeout, watch } = this.cfg;
    const meta = { ...snapshot.meta, device: config.device };
    meta.fullSync ||= meta.user === "";
    this.fx = new Effects(meta, config.user);
    this.route = new Route(config.servers);
    this.backoff = new Backoff(config.backoffMin, config.backoffMax, random);
    this.heart = new Heart(snapshot.networks);
    this.watchdog = new Watchdog(requestTimeout);
    this.acks = new Acks(this.fx, watch || config.peek);
    this.sync = new SyncList(this.fx, requestTimeout, random, !this.acks.off);
    this.pulls = new Pulls(this.fx, requestTimeout, random);
    this.asks = new Asks(this.fx, requestTimeout, random);
    this.fetches = new Fetches(this.fx);
    this.doubts = new Doubts(this.fx);
    this.settings = new Settings(snapshot.settings);
    this.conversations = new Conversations(watch);
    snapshot.conversations.forEach((row) => this.conversations.restore(row));
    snapshot.erasures.forEach((x) => this.conversations.restoreErasure(x));
    this.outbox = new Outbox(
      this.fx,
      this.clock,
      () => this.limits,
      random,
      (m, end) => left(this, m, end),
    );
    restoreFormer(this, snapshot.former);
    this.outbox.restore(snapshot.outbox);
    for (const m of this.outbox.byID.values()) {
      countBack(this, m, 1);
    }
  }

  /**
   * Takes one input at the time now; now.mono must not decrease. What it returns says that the input
   * was refused and has changed nothing, and why.
   */
  step(now: Time, input: Input): PimError | undefined {
    const before = this.fx.now;
    this.jump = this.#stepped ? now.wall - before.wall - millis(now.mono - before.mono) : 0;
    this.fx.now = now;
    this.#stepped = true;
    if (Math.abs(this.jump) >= millis(jumpAtLeast)) {
      this.clock.jumped(now.mono);
    }
    const refused = refusal(() => handle(this, input));
    tick(this);
    readOn(this);
    if (this.link.phase === "open") {
      for (let next = this.doubts.next(); next !== undefined; next = this.doubts.next()) {
        goOn(this, next.c, next.check, next.check.next());
      }
      // If the store is a backup, what it has as queued may have been transmitted since.
      const { meta } = this.fx;
      transmit(this.outbox, meta.fullSync && !this.doubts.list && meta.ackSerial > 0);
      startPulls(this);
      bringBack(this);
      this.asks.start();
      this.acks.send(false);
      finishSync(this);
      this.watchdog.listen(waitsForAnswer(this), now.mono);
    }
    return refused;
  }

  /** Returns what the steps since the last take have left to be done. */
  take(): Output {
    if (this.heart.dirty) {
      this.fx.out.store.networks = this.heart.rows();
      this.heart.dirty = false;
    }
    return this.fx.take();
  }

  /**
   * Returns when, on the clock of Time.mono, step is to be called at the latest; undefined if there is
   * nothing to wait for.
   */
  deadline(): Duration | undefined {
    const open = this.link.phase === "open";
    let at = Math.min(linkDeadline(this), outboxDeadline(this.outbox, open, this.paused));
    if (open) {
      at = Math.min(
        at,
        this.pulls.deadline(this.paused),
        this.asks.deadline(this.paused),
        this.sync.deadline(this.paused),
        this.acks.deadline(),
        this.clock.deadline(this.paused),
      );
    }
    return at === never ? undefined : at;
  }

  /** Returns what the connection is doing. */
  state(): State {
    switch (this.link.phase) {
      case "racing":
      case "greeting":
        return "connecting";
      case "open":
        return "connected";
      default:
        return this.link.phase;
    }
  }

  /**
   * Reports whether the device has everything: the sync list was read to its end on this connection, no
   * conversation is behind or in doubt, and no hole is left that is filled without a Fill.
   */
  isSynced(): boolean {
    return this.link.phase === "open" && this.sync.listed && this.conversations.complete() && this.doubts.count === 0;
  }

  /**
   * Returns what an entity of the user's own log has come to, commands in the outbox included.
   */
  setting(entity: string): Setting {
    return settingOf(this, entity);
  }

  /** Returns whose device this is, empty if that is not known yet. */
  user(): UserID {
    return this.fx.user();
  }

  /**
   * Takes Pause. While the shell does not read, no answer can come, so none counts as missing. When it
   * reads again, every answer has its full time again.
   */
  pause(on: boolean): void {
    if (on === this.paused) {
      return;
    }
    const now = this.fx.now.mono;
    this.paused = on;
    if (on) {
      this.#pausedAt = now;
      return;
    }
    outboxResumed(this.outbox, now - this.#pausedAt);
    this.clock.resumed(now);
    this.watchdog.resumed(now);
    const answerBy = now + this.cfg.requestTimeout;
    this.link.welcomeBy = answerBy;
    this.pulls.active.restart(answerBy);
    this.asks.active.restart(answerBy);
    this.sync.restart(answerBy);
  }
}

/** Does what an input says. It throws a PimError if the input is refused. */
function handle(e: Engine, input: Input): void {
  switch (input.type) {
    case "start":
      e.strays.note(e.fx.now.mono); // the process before this one may have died just after its Hello
      beginConfirming(e);
      showPending(e);
      dial(e);
      break;
    case "dialled":
      greet(e, input.attempt, input.token);
      break;
    case "noToken":
      noToken(e, input.attempt, input.err);
      break;
    case "lost":
      lost(e, input.attempt, input.err, input.code);
      break;
    case "frame":
      if (input.attempt === e.link.using) {
        takeFrame(e, input.message);
      }
      break;
    case "arriving":
      if (input.attempt === e.link.using) {
        arriving(e, input.at);
      }
      break;
    case "networkChanged":
      networkChanged(e, input.name);
      break;
    case "reconnect":
      reconnect(e);
      break;
    case "online":
      online(e, input.on);
      break;
    case "foreground":
      inFront(e, input.on);
      break;
    case "send":
      e.outbox.queue(newMessage(e.outbox.checkMessage(input.message)));
      break;
    case "do":
      takeCommand(e, input);
      break;
    case "resend":
      e.outbox.resend(input.id);
      break;
    case "discard":
      e.outbox.discard(input.id);
      break;
    case "confirm":
      confirm(e, input);
      break;
    case "follow":
      follow(e, input.conversation, input.after);
      break;
    case "open":
      openConversation(e, input.conversation);
      break;
    case "reading":
      takeReading(e, input);
      break;
    case "fill":
      takeFill(e, input);
      break;
    case "ask":
    case "askReceipts":
    case "askMembers":
      refuseIfStopped(e);
      e.asks.add(input);
      break;
    case "look":
      takeLook(e, input);
      break;
    case "typing":
      takeTyping(e, input.conversation);
      break;
    case "unask":
      e.fx.out.filled.push(...e.fills.drop(input.id));
      e.asks.drop(input.id);
      break;
    case "pause":
      e.pause(input.on);
      break;
    case "fromStore":
      e.fetches.answered(input);
      break;
    case "close":
      if (e.link.phase === "open") {
        e.acks.send(true);
      }
      break;
    case "tick":
      break;
  }
}

/** Takes a frame from the server; undefined is one of a type that this version does not know. */
function takeFrame(e: Engine, frame: Frame | undefined): void {
  if (e.link.phase === "greeting") {
    answerToHello(e, frame);
    return;
  }
  if (e.link.phase !== "open") {
    return;
  }
  const now = e.fx.now.mono;
  e.fx.lineAt = now;
  e.watchdog.frame();
  e.heart.answered(e.clock.at(e.fx.now));
  switch (frame?.type) {
    case "PIMSendAck":
      e.watchdog.answered(now);
      sent(e, frame.body);
      break;
    case "PIMPush":
      pushed(e, frame.body);
      break;
    case "PIMPullResp":
      e.watchdog.answered(now);
      pulled(e, frame.body);
      break;
    case "PIMReceiptResp":
      e.watchdog.answered(now);
      told(e.asks, frame.body);
      break;
    case "PIMMembersResp":
      e.watchdog.answered(now);
      named(e.asks, frame.body);
      break;
    case "PIMReceipt":
      e.fx.emit(receiptEvent(frame.body));
      break;
    case "PIMTyping":
      e.fx.emit(typingEvent(frame.body));
      break;
    case "PIMPresence":
      e.fx.emit(presenceEvent(frame.body));
      break;
    case "PIMSyncResp":
      e.watchdog.answered(now);
      synced(e, frame.body);
      break;
    case "PIMTimeResp":
      sampled(e, e.clock.add(frame.body.t1, now, frame.body.t2, frame.body.t3));
      break;
    case "PIMPong":
      if (frame.body.behind) {
        startSync(e);
      }
      break;
    case "PIMGoAway":
      goAway(e, frame.body);
      break;
    case "PIMError":
      failed(e, frame.body);
  }
}

/**
 * Takes a PIMError: the refusal of a message or of a request, or, if it names neither, why the server
 * is about to end the connection.
 */
function failed(e: Engine, m: PIMErrorBody): void {
  if (m.clientMessageId.length > 0 || m.requestId !== 0) {
    e.watchdog.answered(e.fx.now.mono);
  }
  if (m.clientMessageId.length > 0) {
    const id = orUndefined(() => clientMessageIDOf(m.clientMessageId));
    if (id !== undefined) {
      rejected(e.outbox, id, refusalOf(m), m.retryable);
    }
  } else if (m.requestId === 0) {
    saysWhy(e, m);
  } else if (m.requestId === e.looks.request) {
    e.fx.emit({ type: "look", err: refusalOf(m) });
  } else if (m.requestId === e.sync.request) {
    e.sync.failed(refusalOf(m));
  } else {
    pullFailed(e, m);
    e.asks.failed(m.requestId, refusalOf(m), m.retryable);
  }
}

/** Returns the error that m carries, with a retryAfter of at most maxWindow. */
export function refusalOf(m: PIMErrorBody): PimError {
  return errorOf({ ...m, retryAfterMs: Math.min(m.retryAfterMs, millis(maxWindow)) });
}

/** Does what has become due. */
function tick(e: Engine): void {
  const now = e.fx.now.mono;
  tickLink(e);
  if (!e.paused) {
    missed(e, tickOutbox(e.outbox, e.link.phase === "open"));
  }
  if (e.link.phase !== "open") {
    return;
  }
  tickPulls(e);
  if (!e.paused) {
    missed(e, e.asks.tick());
  }
  tickSync(e);
  sample(e);
  if (!e.paused && now >= e.watchdog.uselessAt()) {
    hangUp(e, errUnanswered, e.backoff.lost(now));
  }
}

/** Asks the server for its time, if that is due. */
export function sample(e: Engine): void {
  if (!e.paused && e.clock.takeDue(e.fx.now.mono)) {
    askTime(e);
  }
}

/** Asks the server for its time. The answer brings t1 back as it is. */
export function askTime(e: Engine): void {
  e.fx.write({ type: "PIMTimeReq", body: { t1: e.fx.now.mono } });
}

/** Takes what a sample says. */
export function sampled(e: Engine, said: Sampled): void {
  const { meta } = e.fx;
  if (said.back > 0) {
    meta.lastLocal = Math.max(0, meta.lastLocal - millis(said.back));
    e.fx.metaDirty = true;
  }
  if (said.first) {
    dateQueued(e.outbox);
  }
}

/**
 * Tells the watchdog of requests that were not answered in time. sentAt is when each of them was
 * transmitted.
 */
function missed(e: Engine, sentAt: readonly Duration[]): void {
  for (const at of sentAt) {
    e.watchdog.unanswered(at, e.fx.now.mono);
  }
}

/** Returns the longest interval between heartbeats that the server permits. */
export function longestBeat(l: Limits): Duration {
  return l.heartbeat === 0 ? Math.trunc(l.idle / 2) : l.heartbeat;
}

/**
 * Returns the limits of a Welcome; undefined: before the first one. A limit that is left out gets a
 * default: for sizes the protocol's, for inFlight and idle this engine's own.
 */
export function limitsOf(l: LimitsBody | undefined): Limits {
  const heartbeat = (l?.heartbeatMs ?? 0) * millisecond;
  const idle = (l?.idleMs ?? 0) * millisecond;
  return {
    payload: atMost(l?.payloadBytes, maxPayload),
    page: atMost(l?.pageEntries, maxPageEntries),
    members: atMost(l?.groupMembers, maxGroupMembers),
    inFlight: atMost(l?.inFlight, maxInFlight),
    heartbeat: heartbeat === 0 ? 0 : Math.min(Math.max(heartbeat, minIdle), maxHeartbeat),
    idle: idle === 0 ? defaultIdle : Math.max(idle, minIdle),
  };
}

/** Returns n, or limit if n is not named or above it. */
function atMost(n: number | undefined, limit: number): number {
  return Math.min(n || limit, limit);
}
