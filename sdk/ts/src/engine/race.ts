import { type PimError } from "../pim/index.js";
import { sameServer } from "./busy.js";
import { type Duration, millisecond, second } from "./duration.js";
import { type Dial } from "./io.js";
import { type Route } from "./route.js";

// A round is a few attempts to connect. While no attempt has won, another one is started every
// raceEvery. So a server that swallows all packets costs raceEvery, not a timeout of TCP. The first
// attempt whose transport stands (TCP, TLS and the WebSocket upgrade) wins. Only the winner says
// Hello: a second Hello of the same device would replace the first, and the server would close the
// connection that won.

const raceEvery = 2500 * millisecond;
const raceAttempts = 3; // in one round
export const raceFor = 15 * second; // then the round has failed

/** How a round goes on: as it is; with another attempt; or it has come to nothing. */
export type Verdict = "goesOn" | "another" | "over";

/** The round under way, if there is one. */
export class Race {
  #attempts = 0; // of all rounds; their numbers count from 1
  #running: Dial[] = []; // none unless racing
  #tried: string[] = []; // servers of the attempts of this round, but for those that have said when to come back
  #nextAt: Duration = 0; // when the next attempt is started
  #endBy: Duration = 0;

  /** Why the app gave no token for the last attempt that got none; undefined: all got theirs. */
  noToken: PimError | undefined;

  /** Starts a round, whose first attempt goes to server. */
  begin(now: Duration, server: string): Dial {
    this.#running = [];
    this.#tried = [];
    this.noToken = undefined;
    this.#endBy = now + raceFor;
    return this.attempt(now, server);
  }

  /** Starts one more attempt of the round. */
  attempt(now: Duration, server: string): Dial {
    this.#attempts++;
    const d: Dial = { attempt: this.#attempts, server };
    this.#running.push(d);
    this.#tried.push(server);
    this.#nextAt = now + raceEvery;
    return d;
  }

  /** Forgets the attempt n and returns it; undefined if n is not under way. */
  #drop(n: number): Dial | undefined {
    const found = this.#running.find((d) => d.attempt === n);
    this.#running = this.#running.filter((d) => d !== found);
    return found;
  }

  /**
   * Ends the round, because the transport of the attempt n stands. It returns n's server, and the
   * other attempts, to be hung up; undefined, and the round goes on, if n is not under way.
   */
  won(n: number): { server: string; others: number[] } | undefined {
    const winner = this.#drop(n);
    return winner && { server: winner.server, others: this.end() };
  }

  /** Ends the round and returns the attempts that are under way. */
  end(): number[] {
    const others = this.#running.map((d) => d.attempt);
    this.#running = [];
    return others;
  }

  /** Returns where the attempt n leads; undefined if n is not under way. */
  serverOf(n: number): string | undefined {
    return this.#running.find((d) => d.attempt === n)?.server;
  }

  /**
   * Ends the attempts other than n that lead to the same server, and returns them, to be hung up. The
   * round goes on.
   */
  withdraw(n: number, server: string): number[] {
    const others = this.#running.filter((d) => d.attempt !== n && sameServer(d.server, server));
    this.#running = this.#running.filter((d) => !others.includes(d));
    return others.map((d) => d.attempt);
  }

  /**
   * Takes the failure of the attempt n; told says that its server has said when to come back; next is the
   * server whose turn it is, "" if none may be dialled. A server that was not tried in this round is tried
   * at once. Otherwise the round goes on while other attempts are under way, and is over when none is.
   * What was told does not count as a try: while attempts at servers that say nothing are under way, that
   * one is asked again at its time.
   */
  failed(n: number, told: boolean, next: string): Verdict {
    const failed = this.#drop(n);
    if (failed === undefined) {
      return "goesOn"; // hung up before
    }
    if (told) {
      this.#tried.splice(this.#tried.indexOf(failed.server), 1);
    }
    if (next !== "" && this.#tried.length < raceAttempts && !this.#tried.includes(next)) {
      return "another";
    }
    return this.#running.length === 0 ? "over" : "goesOn";
  }

  /**
   * Notes that the app gave no token for the attempt n, and why. That is no reason to try another
   * server; attempts that have their tokens go on.
   */
  withoutToken(n: number, err: PimError): Verdict {
    if (this.#drop(n) === undefined) {
      return "goesOn"; // hung up before
    }
    this.noToken = err;
    return this.#running.length === 0 ? "over" : "goesOn";
  }

  /** Returns how the round goes on at now. */
  due(now: Duration): Verdict {
    if (now >= this.#endBy) {
      return "over";
    }
    return now >= this.#nextAt && this.#tried.length < raceAttempts ? "another" : "goesOn";
  }

  /**
   * Reports whether an attempt that is due may be started now in rt, where a server may be dialled. It may
   * not if attempts at all of those are under way, and another one has said when to come back. Then the
   * attempt is put off until that one may be asked.
   */
  mayTry(rt: Route, now: Duration): boolean {
    const dialled = this.servers();
    const at = rt.busyUntil(now);
    if (at >= this.#endBy || !dialled.includes(rt.next(now, dialled))) {
      return true;
    }
    this.#nextAt = at;
    return false;
  }

  /** Returns where the attempts lead that are under way. */
  servers(): string[] {
    return this.#running.map((d) => d.server);
  }

  /** Returns when something is due. */
  deadline(): Duration {
    return this.#tried.length < raceAttempts ? Math.min(this.#endBy, this.#nextAt) : this.#endBy;
  }
}
