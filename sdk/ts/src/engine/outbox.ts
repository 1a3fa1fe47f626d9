import {
  checkUserID,
  type ClientMessageID,
  type Command,
  type ConversationID,
  entityOf,
  type Entry,
  EntryKind,
  entryKindName,
  maxMentions,
  type Millis,
  ownUser,
  PimError,
  type Seq,
  type UserID,
} from "../pim/index.js";
import { forgotten } from "./age.js";
import { type Clock } from "./clock.js";
import { commandOf } from "./commands.js";
import { type ConversationState } from "./conversation.js";
import { type Duration, never } from "./duration.js";
import { type Effects } from "./effects.js";
import { type Limits } from "./engine.js";
import { checkReferring } from "./folds.js";
import { accepted, waitsUntil } from "./refused.js";
import { type Outgoing, type SendEvent, type SendState, type Sent } from "./types.js";

export const maxOutbox = 10_000; // messages
const maxOutboxBytes = 64 << 20; // their payloads
export const maxFailed = 1_000; // messages that have failed; the oldest give way

// A message on its way (SendState):
//
//	queued ──transmit──► sending ──answer──► sent
//	   ▲                  │   ▲
//	   │   connection lost│   │new connection, or its time
//	   │      or "busy"   ▼   │
//	   │                 waiting
//	   │                    │ 180 s after the first transmission, or refused for good
//	   └─────Resend────── failed ──Discard──► gone
//
// Only messages proper (EntryKind.message) are given up after 180 s. Creates, joins, leaves, commands
// and what refers to a message wait longer: they expire a week after they were queued.

/** An Outgoing of any kind on its way. */
export interface OutMessage {
  readonly out: Outgoing;
  lane: Lane | undefined;
  command: Command | undefined; // of a command
  counts: readonly number[]; // of mentions, as the server has answered
  cut: boolean; // refers is not what it was when the message was transmitted first, see referredBack

  state: "queued" | "sending" | "waiting" | "failed";
  attempt: number; // transmissions so far, by this process
  resumed: boolean; // it was transmitted before this process, or before the server lost it
  firstAt: Duration; // the first transmission by this process

  // The wall clock when this process queued the message, and when it transmitted the message for the
  // first time ever; 0 if an earlier process did. See since in age.ts.
  queuedWall: Millis;
  firstWall: Millis;

  resends: number; // transmissions that were made because no answer came in time
  refusals: number; // in a row, all of them retryable
  cause: PimError | undefined; // why it waits
  sentAt: Duration; // sending: the last transmission
  retryAt: Duration; // sending and waiting: the next transmission; 0: on a new connection
  giveUpAt: Duration; // set at the first transmission by this process; never if patient or again
  heldUntil: Duration; // see hold
  rough: boolean; // queued was taken before the server's time was known
  roughAt: Duration; // rough: when the message was queued, on the monotonic clock
}

/** Returns out as a message that was not transmitted by this process. */
export function newMessage(out: Outgoing): OutMessage {
  return {
    out,
    lane: undefined,
    command: out.kind === EntryKind.command ? commandOf(out) : undefined,
    counts: [],
    cut: false,
    state: "queued",
    attempt: 0,
    resumed: false,
    firstAt: 0,
    queuedWall: 0,
    firstWall: 0,
    resends: 0,
    refusals: 0,
    cause: undefined,
    sentAt: 0,
    retryAt: 0,
    giveUpAt: never,
    heldUntil: 0,
    rough: false,
    roughAt: 0,
  };
}

/**
 * Reports whether m waits for an answer for as long as it takes, up to a week. Nothing overtakes a
 * patient message: what comes behind it in its lane may depend on it.
 */
export function isPatient(m: OutMessage): boolean {
  return m.out.kind !== EntryKind.message;
}

/**
 * Holds messages that keep an order among themselves, first in, first out: those of one conversation,
 * what refers to one message, the commands about one entity, or the create of one group. A message is
 * transmitted for the first time only after all before it in the lane were; several may be in flight,
 * because the display order mends what a resend disturbs. A patient message waits until all before it
 * are answered, and everything behind it waits until it is answered.
 */
export interface Lane {
  readonly key: string;
  readonly conversation: ConversationID;
  readonly entity: string; // of commands; else empty
  messages: OutMessage[]; // in the order in which they entered; none that has failed
  ready: boolean; // it is in Outbox.ready
}

/** Returns the key of a lane. No part of it has a control character, but a subject, which is the last. */
function laneKey(conversation: ConversationID, refers: Seq, create: ClientMessageID, entity: string): string {
  return `${conversation}\n${refers}\n${create}\n${entity}`;
}

function laneOf(m: OutMessage): Lane {
  const entity = m.command === undefined ? "" : entityOf(m.command);
  const create = m.command === undefined && m.out.conversation === "" ? m.out.id : "";
  const { conversation } = m.out;
  const key = laneKey(conversation, m.out.refers, create, entity);
  return { key, conversation, entity, messages: [], ready: false };
}

/**
 * Returns the message of l that is to be transmitted for the first time now; undefined if there is
 * none.
 */
export function nextOf(l: Lane): OutMessage | undefined {
  for (const [i, m] of l.messages.entries()) {
    if (m.state === "queued" && (i === 0 || !isPatient(m))) {
      return m;
    }
    if (m.state === "queued" || isPatient(m)) {
      return undefined;
    }
  }
  return undefined;
}

/** What a SendEvent says when a message leaves the outbox; the conversation is that of the message if it is not named. */
type End = Omit<SendEvent, "type" | "id" | "conversation"> & { conversation?: ConversationID };

/** Holds the messages that have no answer yet, and those that failed. All of them are stored. */
export class Outbox {
  readonly byID = new Map<ClientMessageID, OutMessage>();
  readonly lanes = new Map<string, Lane>();
  ready: Lane[] = []; // lanes that may have something to transmit; each at most once
  flying: OutMessage[] = []; // sending, in the order of their last transmission
  delayed: OutMessage[] = []; // waiting, in the order of their numbers
  failed: OutMessage[] = []; // in the order in which they failed
  held: OutMessage[] = []; // those with heldUntil, and some that are gone
  bytes = 0; // payloads of all messages

  // What is known of a server that is busy, see refused.ts.
  readonly spared = new Map<ConversationID, Duration>(); // of which messages were refused on this connection: no message to them is transmitted before
  holdUntil: Duration = 0; // no message is transmitted before
  window = Infinity; // messages in flight whose answers are not overdue, at most
  streak = 0; // refusals in a row, each of another conversation than the one before, and of what was sent after that was told
  toldAt: Duration = 0; // when a refusal was told last of what was sent after the one before
  toldOf: ConversationID | undefined; // of the last one in streak

  readonly #left: (m: OutMessage, end: SendState) => void;

  /**
   * limits returns those of the last Welcome; left is called when a message has left the outbox, after
   * its last SendEvent.
   */
  constructor(
    readonly fx: Effects,
    readonly clock: Clock,
    readonly limits: () => Limits,
    readonly random: () => number,
    left: (m: OutMessage, end: SendState) => void,
  ) {
    this.#left = left;
  }

  /** Goes on with the messages of a store. */
  restore(messages: readonly Outgoing[]): void {
    for (const out of [...messages].sort((a, b) => a.number - b.number)) {
      const m = newMessage({ ...out });
      this.byID.set(out.id, m);
      this.bytes += out.payload.length;
      if (out.failed !== undefined) {
        m.state = "failed";
        this.failed.push(m);
        continue;
      }
      if (out.local !== 0 && !out.again) {
        m.state = "waiting";
        this.delayed.push(m);
      }
      this.#enter(m);
    }
  }

  /** Returns the messages in the order of their numbers. */
  ordered(): OutMessage[] {
    return [...this.byID.values()].sort((a, b) => a.out.number - b.out.number);
  }

  /** Puts m at the end of its lane. */
  #enter(m: OutMessage): void {
    const fresh = laneOf(m);
    const l = this.lanes.get(fresh.key) ?? fresh;
    this.lanes.set(l.key, l);
    m.lane = l;
    l.messages.push(m);
    this.wake(l);
  }

  /** Takes m out of its lane and out of flight. */
  #exit(m: OutMessage): void {
    this.land(m);
    const l = m.lane;
    if (l === undefined) {
      return;
    }
    m.lane = undefined;
    l.messages = l.messages.filter((other) => other !== m);
    if (l.messages.length > 0) {
      this.wake(l);
      return;
    }
    this.lanes.delete(l.key);
    if (waitsUntil(this, l.conversation) <= this.fx.now.mono) {
      this.spared.delete(l.conversation); // whatever comes next may be accepted
    }
    if (l.ready) {
      l.ready = false;
      this.ready = this.ready.filter((other) => other !== l);
    }
  }

  /** Takes m out of flying, delayed or failed. */
  land(m: OutMessage): void {
    const others = (list: OutMessage[]) => list.filter((other) => other !== m);
    if (m.state === "sending") {
      this.flying = others(this.flying);
    } else if (m.state === "waiting") {
      this.delayed = others(this.delayed);
    } else if (m.state === "failed") {
      this.failed = others(this.failed);
    }
    m.state = "queued";
  }

  /** Makes m wait until retryAt (0: for a new connection), because of cause. */
  delay(m: OutMessage, retryAt: Duration, cause: PimError): void {
    this.land(m);
    m.state = "waiting";
    m.retryAt = retryAt;
    m.cause = cause;
    const at = this.delayed.findIndex((d) => d.out.number >= m.out.number);
    this.delayed.splice(at < 0 ? this.delayed.length : at, 0, m);
    this.fx.emit({
      type: "send",
      id: m.out.id,
      conversation: m.out.conversation,
      state: "waiting",
      err: cause,
      ...(retryAt !== 0 && { retryIn: retryAt - this.fx.now.mono }),
    });
  }

  /** Returns the commands about entity that are on their way to the user's own log, in their order. */
  commands(log: ConversationID, entity: string): readonly OutMessage[] {
    return this.lanes.get(laneKey(log, 0, "", entity))?.messages ?? [];
  }

  /** Returns what is on its way to a conversation and refers to no message, in its order. */
  messagesTo(conversation: ConversationID): readonly OutMessage[] {
    return this.lanes.get(laneKey(conversation, 0, "", ""))?.messages ?? [];
  }

  /** Reports whether the server owes an answer. */
  waits(): boolean {
    return this.flying.length > 0;
  }

  /** Gives every answer time until by at least. */
  extend(by: Duration): void {
    for (const m of this.flying) {
      m.retryAt = Math.max(m.retryAt, by);
    }
  }

  wake(l: Lane): void {
    if (!l.ready) {
      l.ready = true;
      this.ready.push(l);
    }
  }

  /**
   * Checks a message of Send or Confirm, which must not be a command, and returns it as it is to be
   * queued. It throws a PimError if the message cannot be queued.
   */
  checkMessage(out: Outgoing): Outgoing {
    this.check(out);
    const user = ownUser(out.conversation);
    if (user !== undefined) {
      throw new PimError("invalid", `the log of ${user}'s own commands takes no messages`);
    }
    if (out.kind === EntryKind.command) {
      throw new PimError("invalid", `a command cannot be sent as a message to "${out.conversation}"`);
    }
    const mentions = checkMentions(out);
    checkReferring(out);
    return { ...out, mentions };
  }

  /** Throws a PimError that says why out cannot be queued, if it cannot. */
  check(out: Outgoing): void {
    const limits = this.limits();
    if (this.byID.has(out.id)) {
      throw new PimError("conflict", `message ${out.id} is in the outbox`);
    }
    if (out.payload.length > limits.payload) {
      const text = `a payload of ${out.payload.length} bytes, at most ${limits.payload} are allowed`;
      throw new PimError("too_large", text);
    }
    if (out.members.length > limits.members) {
      throw new PimError("too_large", `${out.members.length} members, at most ${limits.members} are allowed`);
    }
    this.#checkRoom(1, out.payload.length);
  }

  /** Returns the answers that are not in the outbox yet. It throws a PimError if they cannot all be queued. */
  checkAnswers(answers: readonly Outgoing[]): Outgoing[] {
    const fresh: Outgoing[] = [];
    let bytes = 0;
    for (const out of answers) {
      if (this.byID.has(out.id)) {
        continue;
      }
      if (fresh.some((other) => other.id === out.id)) {
        throw new PimError("invalid", `two answers have the ID ${out.id}`);
      }
      fresh.push(this.checkMessage(out));
      bytes += out.payload.length;
    }
    this.#checkRoom(fresh.length, bytes);
    return fresh;
  }

  /** Reports whether there is room for so many messages more, with so many bytes. */
  fits(messages: number, bytes: number): boolean {
    return this.byID.size + messages <= maxOutbox && this.bytes + bytes <= maxOutboxBytes;
  }

  #checkRoom(messages: number, bytes: number): void {
    if (!this.fits(messages, bytes)) {
      throw new PimError("overloaded", `the outbox is full: ${this.byID.size} messages, ${this.bytes} bytes`);
    }
  }

  /** Stores m as the outbox's last message, to be transmitted as if for the first time. */
  queue(m: OutMessage): void {
    const { fx } = this;
    m.out.local = 0;
    m.out.failed = undefined;
    m.attempt = 0;
    m.resumed = false;
    m.resends = 0;
    m.refusals = 0;
    m.giveUpAt = never;
    m.cause = undefined;
    m.queuedWall = fx.now.wall;
    m.out.queued = this.clock.at(fx.now);
    m.rough = !this.clock.known;
    m.roughAt = fx.now.mono;
    if (m.rough) {
      m.out.queued = Math.max(m.out.queued, fx.meta.lastLocal); // the wall clock may be behind
    }
    this.#add(m);
  }

  /**
   * Queues a message that the server has acknowledged and lost since. It returns undefined if the
   * message is in the outbox already.
   */
  again(out: Outgoing): OutMessage | undefined {
    if (this.byID.has(out.id)) {
      return undefined;
    }
    const m = newMessage(out);
    m.out.queued = this.clock.at(this.fx.now);
    this.#add(m);
    return m;
  }

  /** Stores m as the outbox's last message. */
  #add(m: OutMessage): void {
    if (!this.byID.has(m.out.id)) {
      this.byID.set(m.out.id, m);
      this.bytes += m.out.payload.length;
    }
    this.fx.meta.number++;
    this.fx.metaDirty = true;
    m.out.number = this.fx.meta.number;
    this.#enter(m);
    this.#queued(m);
  }

  /** Stores m, and says that it waits for its turn. */
  #queued(m: OutMessage): void {
    this.fx.store(m);
    this.fx.emit({ type: "send", id: m.out.id, conversation: m.out.conversation, state: "queued" });
  }

  /** Queues a failed message again. It throws a PimError if that cannot be. */
  resend(id: ClientMessageID): void {
    const m = this.#require(id);
    if (m.state !== "failed") {
      throw new PimError("conflict", `message ${id} is ${m.state}; only what has failed is sent again`);
    }
    const lost = forgotten(m, this.clock.times(this.fx.now));
    if (lost !== undefined) {
      throw lost;
    }
    this.land(m);
    m.out.first ||= m.out.local;
    this.queue(m);
  }

  /**
   * Gives up a message that is queued or has failed. One in any other state may have reached the
   * server, and the app does not know yet: then a PimError is thrown.
   */
  discard(id: ClientMessageID): void {
    const m = this.#require(id);
    if (m.state !== "failed" && m.state !== "queued") {
      throw new PimError("conflict", `message ${id} is ${m.state} and may have reached the server`);
    }
    this.leave(m, { state: "discarded" });
  }

  #require(id: ClientMessageID): OutMessage {
    const m = this.byID.get(id);
    if (m === undefined) {
      throw new PimError("not_found", `message ${id} is not in the outbox`);
    }
    return m;
  }

  /** Takes m out of the outbox; end is its last SendEvent. */
  leave(m: OutMessage, end: End): void {
    this.#exit(m);
    this.byID.delete(m.out.id);
    this.bytes -= m.out.payload.length;
    this.fx.unstore(m.out.id);
    const conversation = end.conversation || m.out.conversation;
    this.fx.emit({ ...end, type: "send", id: m.out.id, conversation });
    this.#left(m, end.state);
  }

  /**
   * Keeps m in the outbox until the app decides: Resend or Discard. A command is dropped, and so is
   * what refers to a message: it is shown no longer, and says no more.
   */
  fail(m: OutMessage, err: PimError): void {
    if (m.command !== undefined || m.out.refers !== 0) {
      this.leave(m, { state: "failed", err });
      return;
    }
    this.#exit(m);
    m.state = "failed";
    m.out.failed = new PimError(err.kind, err.text, { op: err.op });
    this.failed.push(m);
    this.fx.store(m);
    this.fx.emit({ type: "send", id: m.out.id, conversation: m.out.conversation, state: "failed", err });
    if (this.failed.length > maxFailed) {
      // A message that the server has lost (again) is nowhere else, so it does not give way; bringBack
      // bounds how many there are.
      const oldest = this.failed.find((f) => !f.out.again);
      if (oldest !== undefined) {
        this.leave(oldest, { state: "discarded" });
      }
    }
  }

  /** Takes the server's final refusal of m. */
  refuse(m: OutMessage, err: PimError): void {
    if (m.out.again && (m.out.kind === EntryKind.join || m.out.kind === EntryKind.leave)) {
      this.leave(m, { state: "discarded" }); // another device has brought it back, or no device can
    } else {
      this.fail(m, err);
    }
  }

  /**
   * Reports whether the server has refused all messages of c that are being sent again, and formerRead
   * has not looked yet whether the group's create is kept aside.
   */
  stuck(c: ConversationState): boolean {
    if (c.peeked || c.back > this.failed.length) {
      return false;
    }
    return this.failed.filter((m) => m.out.again && m.out.conversation === c.id).length === c.back;
  }

  /**
   * Queues the messages to the group id again that were being sent again, and were refused because the
   * group was not there yet.
   */
  revive(id: ConversationID): void {
    for (const m of [...this.failed]) {
      if (m.out.again && m.out.conversation === id && m.out.failed?.kind === "not_member") {
        this.land(m);
        m.out.failed = undefined;
        m.attempt = 0;
        m.resends = 0;
        m.refusals = 0;
        this.#enter(m);
        this.#queued(m);
      }
    }
  }

  /**
   * Takes an entry of this user's that was pushed or pulled. If it is the entry of a message in the
   * outbox, the answer was lost, and the entry serves as the answer.
   */
  found(entry: Entry): void {
    const m = this.byID.get(entry.clientID);
    if (m !== undefined && (entry.device === this.fx.meta.device || m.out.again)) {
      this.delivered(m, {
        conversation: entry.conversation,
        seq: entry.seq,
        anchor: entry.anchor,
        server: entry.server,
        ahead: entry.ahead,
        order: entry.order,
        count: entry.count,
        allCount: 0,
        duplicate: false,
        strangers: [],
      });
    }
  }

  /** Takes m, which the server has, out of the outbox. */
  delivered(m: OutMessage, sent: Sent): void {
    accepted(this);
    this.leave(m, { conversation: sent.conversation, state: "sent", sent });
  }
}

/**
 * Returns whom a message names, each once. It throws a PimError if something is wrong with the
 * mentions.
 */
function checkMentions(out: Outgoing): UserID[] {
  if (out.kind !== EntryKind.message && (out.mentionAll || out.mentions.length > 0)) {
    throw new PimError("invalid", `a ${entryKindName(out.kind)} mentions nobody`);
  }
  out.mentions.forEach(checkUserID);
  const names = [...new Set(out.mentions)];
  if (names.length > maxMentions) {
    throw new PimError("too_large", `a message that names ${names.length} users, at most ${maxMentions} are allowed`);
  }
  return names;
}
