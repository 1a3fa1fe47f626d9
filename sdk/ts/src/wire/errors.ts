import { type Kind, kinds, PimError } from "../pim/errors.js";
import type { Bodies } from "./frame.js";

/**
 * Returns the error that m carries. A kind of a later version becomes "unavailable" if m is retryable, else "invalid".
 */
export function errorOf(m: Bodies["PIMError"]): PimError {
  const kind: Kind = kinds[m.kind] ?? (m.retryable ? "unavailable" : "invalid");
  return new PimError(kind, m.text, { retryAfter: m.retryAfterMs });
}

/**
 * Why a connection was closed: in PIMGoAway, and as the WebSocket close code. 4000–4099: reconnect, after a random wait in the
 * window. 4100–4199: do not reconnect before something has changed. A later version may use others.
 */
export type Code = number;

/** The close codes of v1, by their stable names, as in metrics. */
export const Code = {
  /** The server stops or restarts. */
  shutdown: 4000,
  /** The connection did not take what was written to it. */
  slow: 4001,
  /** Silent for longer than Welcome's limits allow. */
  idle: 4002,
  /** The node takes no more connections. */
  overloaded: 4003,
  /** The node cannot serve now, because its store has failed. */
  unavailable: 4004,
  /** No Hello in time, or a frame that stayed half sent. */
  handshake: 4005,
  /** The same device connected again. */
  replaced: 4100,
  /** The token is not valid, or has expired. */
  unauthorized: 4101,
  /** A frame that cannot be read, or one not allowed here. */
  protocol: 4102,
  /** A frame above the limit. */
  too_large: 4103,
  /** No common protocol version. */
  unsupported: 4104,
} as const satisfies Record<string, Code>;

/** Returns the code's stable name; "other" if this version does not know it. */
export function codeName(code: Code): string {
  return Object.entries(Code).find(([, c]) => c === code)?.[0] ?? "other";
}

/** Reports whether a client reconnects by itself after code. */
export function reconnects(code: Code): boolean {
  return code < 4100;
}
