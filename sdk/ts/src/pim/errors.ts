import type { Millis } from "./limits.js";

/**
 * The names of all kinds of errors, by their numbers on the wire (docs/protocol.md, "Errors"). Numbers and names are only
 * ever added.
 */
export const kinds = [
  "unknown", // not classified; a client treats it as internal
  "invalid", // the request can never succeed as it is
  "unauthorized", // no valid token
  "forbidden", // the user may not do this
  "not_member", // the user is not in the conversation
  "not_found", // the conversation, or what else was named, does not exist
  "too_large", // over a limit, such as one that Welcome announces
  "overloaded", // a bound was reached; try again after retryAfter
  "unavailable", // the node cannot write or read now; try again
  "disk_full", // no room to write durably; try again later
  "corrupt", // stored data failed its checksum or cannot be decoded
  "unsupported", // a version or feature that this side does not know
  "replaced", // the same device connected again elsewhere
  "timeout", // the other side was silent or too slow
  "internal", // a defect; the server's log says more
  "conflict", // the ID, or what else was asked for, is already in use
  "clock_unhealthy", // the node's clock is off; it does not write
  "revoked", // the token was good, and was revoked; or its user is blocked
] as const;

/** The sort of an error; programs decide by it. */
export type Kind = (typeof kinds)[number];

/** Reports whether the same request may succeed later. */
export function isRetryable(kind: Kind): boolean {
  switch (kind) {
    case "overloaded":
    case "unavailable":
    case "disk_full":
    case "timeout":
    case "internal":
    case "unknown":
    case "clock_unhealthy":
      return true;
    default:
      return false;
  }
}

/** What a PimError may say besides its kind and text. */
export interface ErrorDetails {
  /** What was being done, e.g. "send". */
  op?: string;
  /** When to try again at the earliest, in milliseconds from now; 0 if the server has no opinion. */
  retryAfter?: Millis;
  /** The error that caused this one; it does not cross the wire. */
  cause?: unknown;
}

/**
 * The error that everything in this package throws: what was being done, its kind, and a text that a reader of the log can
 * act on. Its message is "op: text (kind)"; the text names the kind of a cause only if that differs.
 */
export class PimError extends Error {
  override readonly name = "PimError";
  /** What programs decide by. */
  readonly kind: Kind;
  /** For people. */
  readonly text: string;
  /** What was being done; empty if not known. */
  readonly op: string;
  /** When to try again at the earliest, in milliseconds from now; 0 if the server has no opinion. */
  readonly retryAfter: Millis;

  constructor(kind: Kind, text: string, details: ErrorDetails = {}) {
    const { op = "", retryAfter = 0, cause } = details;
    const said = withoutKind(text, kind, cause);
    super(`${op === "" ? "" : `${op}: `}${said} (${kind})`, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.text = said;
    this.op = op;
    this.retryAfter = retryAfter;
  }
}

/** Returns text, which may quote cause. If that is of kind, the "(kind)" at the end of its quote is left out. */
function withoutKind(text: string, kind: Kind, cause: unknown): string {
  const inner = pimErrorOf(cause);
  const end = ` (${kind})`;
  if (inner?.kind !== kind) {
    return text;
  }
  return text.replace(inner.message, () => inner.message.slice(0, -end.length));
}

/** Returns the first PimError among err, its cause, the cause of that, and so on; undefined if there is none. */
export function pimErrorOf(err: unknown): PimError | undefined {
  // An error may be its own cause, by somebody's mistake: the way is bounded.
  for (let i = 0; i < 100 && err instanceof Error; i++, err = err.cause) {
    if (err instanceof PimError) {
      return err;
    }
  }
  return undefined;
}

/** Returns the kind of the first PimError among err and its causes: "unknown" if there is none. */
export function kindOf(err: unknown): Kind {
  return pimErrorOf(err)?.kind ?? "unknown";
}
