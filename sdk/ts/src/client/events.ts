import { type Duration, millis } from "../engine/duration.js";
import type * as engine from "../engine/types.js";
import { type Millis } from "../pim/index.js";

export type {
  ChangedEvent,
  EntryEvent,
  ErasedEvent,
  ListEvent,
  LookEvent,
  PresenceEvent,
  ReadEvent,
  ReceiptEvent,
  RefusedEvent,
  RewoundEvent,
  SendState,
  Sent,
  SettingEvent,
  State,
  TrimmedEvent,
  TypingEvent,
} from "../engine/types.js";

/**
 * A message of the outbox has reached a state; see SendState for what they mean. With "sent", "superseded" and "discarded" the
 * message has left the outbox, and so has a command, or what refers to a message, with "failed".
 */
export interface SendEvent extends Omit<engine.SendEvent, "retryIn"> {
  /** Waiting: milliseconds until it is sent again; missing: when there is a connection. */
  retryIn?: Millis;
}

/**
 * The connection's state has changed. "waiting" with an err of kind "unauthorized" says that the server has refused the token, or
 * that the token has run out: the app is asked for another after retryIn. With an err of kind "overloaded" a server has turned the
 * client away because it has too much to do: it is left alone for as long as it said, and retryIn is until the next attempt, at it or
 * at another. "stopped" says that no attempt is made any more, until Client.reconnect.
 */
export interface StateEvent extends Omit<engine.StateEvent, "retryIn"> {
  /** Waiting: milliseconds until the next attempt. */
  retryIn?: Millis;
}

/** What happens, told apart by type: see each for what it promises. */
export type Event = Exclude<engine.Event, engine.SendEvent | engine.StateEvent> | SendEvent | StateEvent;

/** The event of a type. */
export type EventOf<T extends Event["type"]> = Extract<Event, { type: T }>;

/** The states of messages that have left the outbox; with "failed" commands have. */
const gone: readonly string[] = ["sent", "discarded", "superseded", "failed"] satisfies engine.SendState[];

/** Reports whether ev says what has become of a message. */
export function isEnd(ev: Event | engine.Event): ev is SendEvent {
  return ev.type === "send" && gone.includes(ev.state);
}

/** Returns ev as the app sees it: its times are milliseconds. */
export function eventOf(ev: engine.Event): Event {
  if (ev.type !== "send" && ev.type !== "state") {
    return ev;
  }
  const { retryIn, ...rest } = ev;
  return retryIn === undefined ? rest : { ...rest, retryIn: inMillis(retryIn) };
}

/** Returns d in milliseconds, rounded up: what is due in less than one is not due yet. */
function inMillis(d: Duration): Millis {
  return millis(d) + (d % 1_000_000 > 0 ? 1 : 0);
}
