import { type AppInput, type Update } from "../client/session.js";
import { type Kind, kindOf, PimError } from "../pim/index.js";

// What tabs say to each other over a BroadcastChannel. Every tab hears everything, in one order for each that speaks.

/**
 * The version of what tabs say, greater by one with each change, a method of Call included: what a leader of an older version does not
 * know it would not answer. A tab that hears a greater one is of an older version of the app, and makes way.
 */
export const protocol = 3;

/** Says who speaks to whom. */
export interface Envelope {
  v: number;
  from: string;
  to: string; // empty: all
  /** The leadership that it belongs to, as far as the speaker knows; 0: none. Later ones have greater numbers. */
  epoch: number;
  /** How many updates the speaker has said since it leads, this one included: who has heard fewer of them has missed some. */
  updates: number;
  said: Said;
}

export type Said =
  /** A tab is here and does not know who leads. */
  | { type: "who" }
  /** This tab leads, from now on or still. fresh: there was no store when it began. */
  | { type: "leads"; visible: boolean; fresh: boolean }
  /** A tab that a person looks at wants to lead instead of the one that does. */
  | { type: "yield" }
  /** A tab is about to lead. */
  | { type: "takes" }
  /** The call with this number is to be done. least is the least number of those that have no answer yet. */
  | { type: "call"; n: number; least: number; call: Call }
  /** Nobody waits for the answer to a call any more. */
  | { type: "abort"; n: number }
  | { type: "answer"; n: number; result?: unknown; err?: unknown }
  | { type: "update"; update: Update };

/** A call of a Session's method, or "say", with what a tab says of itself. */
export interface Call {
  method:
    "say" | "do" | "ask" | "fill" | "page" | "messages" | "folds" | "outbox" | "ended" | "rows" | "entriesAfter" | "start";
  args: unknown[];
}

/** The member that stands for an error: structuredClone would leave its kind out. */
const marked = "pim error";

/** Returns value with its errors as plain objects. */
export function pack(value: unknown): unknown {
  if (value instanceof Error) {
    const { kind, text, op, retryAfter } = value instanceof PimError ? value : new PimError("unknown", value.message);
    return { [marked]: true, kind, text, op, retryAfter };
  }
  return within(value, pack);
}

/** Returns value with the errors that pack has made plain as PimErrors. */
export function unpack(value: unknown): unknown {
  if (typeof value === "object" && value !== null && marked in value) {
    const { kind, text, op, retryAfter } = value as unknown as { kind: Kind; text: string; op: string; retryAfter: number };
    return new PimError(kind, text, { op, retryAfter });
  }
  return within(value, unpack);
}

/** Returns value with each member as change returns it; value itself if that changes nothing. */
function within(value: unknown, change: (member: unknown) => unknown): unknown {
  if (Array.isArray(value)) {
    const list: unknown[] = value.map(change);
    return list.some((one, i) => one !== value[i]) ? list : value;
  }
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) {
    return value;
  }
  let changed: Record<string, unknown> | undefined;
  for (const [key, member] of Object.entries(value)) {
    const is = change(member);
    if (is !== member) {
      changed ??= { ...value };
      changed[key] = is;
    }
  }
  return changed ?? value;
}

/**
 * Reports whether err, of a call that was made again with another leader, says that the call before had done what it was to do: a
 * message is in the outbox, was queued again, or is not in the outbox any more.
 */
export function isDone(call: Call, err: unknown): boolean {
  const type = call.method === "do" ? (call.args[0] as AppInput).type : undefined;
  const kind = kindOf(err);
  return (
    ((type === "send" || type === "do" || type === "resend") && kind === "conflict") ||
    ((type === "resend" || type === "discard") && kind === "not_found")
  );
}
