import { type Duration, second } from "../engine/index.js";
import { PimError, pimErrorOf } from "../pim/index.js";
import { byteLength, isWellFormed } from "../pim/text.js";
import { type Clock } from "./clock.js";
import { type Conn } from "./connection.js";
import { type Checked } from "./options.js";
import { orAborted } from "./wait.js";

const maxDialing: Duration = 15 * second;
const maxAsking: Duration = 10 * second; // the part of maxDialing for the token
const maxToken = 8 << 10; // bytes, as in the protocol

/** What has become of an attempt: one of the three. */
export interface Dialled {
  attempt: number;
  conn?: { conn: Conn; token: string };
  noToken?: PimError; // why the app gave none
  err?: Error;
}

/** Gets tokens and connects. */
export class Dials {
  readonly #o: Checked;
  readonly #clock: Clock;
  readonly #under = new Map<number, AbortController>(); // attempts under way
  #asking = Promise.resolve(); // settled when the last call of the app has ended, or maxAsking is over

  constructor(o: Checked) {
    this.#o = o;
    this.#clock = o.clock;
  }

  /** Gets a token and connects to server. done is called with the outcome, whose owner takes it. */
  async dial(attempt: number, server: string, done: (d: Dialled) => void): Promise<void> {
    const control = new AbortController();
    this.#under.set(attempt, control);
    const end = this.#clock.after(maxDialing, () => {
      control.abort(new PimError("timeout", `${server} was not reached within ${maxDialing / second} s`));
    });
    const outcome = await this.#connect(server, control.signal);
    end();
    done({ attempt, ...outcome });
  }

  /** Takes note that an outcome was taken, and reports whether it is wanted: the attempt was not given up. */
  took(attempt: number): boolean {
    return this.#under.delete(attempt);
  }

  /** Gives an attempt up, if it is under way. */
  giveUp(attempt: number): void {
    this.#under.get(attempt)?.abort(new PimError("unavailable", "nobody waits for the connection any more"));
    this.#under.delete(attempt);
  }

  /** Gives all attempts up. */
  close(): void {
    [...this.#under.keys()].forEach((attempt) => this.giveUp(attempt));
  }

  async #connect(server: string, signal: AbortSignal): Promise<Omit<Dialled, "attempt">> {
    try {
      const dialer = this.#o.dialers.get(server) ?? this.#o.dialer(server);
      const token = await this.#token(signal);
      if (token instanceof PimError) {
        return { noToken: token };
      }
      const conn = await dialer(signal);
      return { conn: { conn, token } };
    } catch (err) {
      return { err: err instanceof Error ? err : new PimError("unavailable", String(err)) };
    }
  }

  /**
   * Asks the app for a token, one call at a time. It waits no longer than maxAsking, even for an app that does not heed its signal;
   * then the next call may be made, though that of before has not ended.
   */
  async #token(signal: AbortSignal): Promise<string | PimError> {
    const { token } = this.#o.options;
    if (typeof token === "string") {
      return checkToken(token);
    }
    const control = new AbortController();
    const abort = (): void => control.abort(signal.reason);
    signal.addEventListener("abort", abort);
    const end = this.#clock.after(maxAsking, () => {
      control.abort(new PimError("timeout", `Options.token did not return one within ${maxAsking / second} s`));
    });
    const before = this.#asking;
    const asked = (async () => {
      await before;
      control.signal.throwIfAborted();
      return token({ signal: control.signal });
    })();
    this.#asking = new Promise<void>((resolve) => {
      const over = this.#clock.after(maxAsking, resolve);
      asked
        .catch(() => undefined)
        .finally(() => {
          over();
          resolve();
        });
    });
    try {
      return checkToken(await orAborted(asked, control.signal));
    } catch (err) {
      return noToken(err);
    } finally {
      end();
      signal.removeEventListener("abort", abort);
    }
  }
}

/** Returns err, for which the app gave no token. Of a PimError the kind and retryAfter are kept. */
function noToken(cause: unknown): PimError {
  const own = pimErrorOf(cause);
  const said = own?.text ?? (cause instanceof Error ? cause.message : String(cause));
  const { kind = "unavailable", retryAfter = 0 } = own ?? {};
  return new PimError(kind, `no token: ${said}`, { op: "connect", retryAfter, cause });
}

/** Returns token, or the refusal of one that a server could not even read: the server would end the connection for good. */
function checkToken(token: unknown): string | PimError {
  if (typeof token !== "string" || token === "") {
    return new PimError("unauthorized", "Options.token returned an empty token");
  }
  const bytes = byteLength(token);
  if (bytes > maxToken) {
    return new PimError("unauthorized", `Options.token returned a token of ${bytes} bytes, at most ${maxToken} are allowed`);
  }
  if (!isWellFormed(token)) {
    return new PimError("unauthorized", "Options.token returned a token that is not Unicode");
  }
  return token;
}
