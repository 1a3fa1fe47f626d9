import { byteLength } from "../pim/text.js";
import { maxBusy, sameServer, type TurnedAway } from "./busy.js";
import { type Duration, never } from "./duration.js";

const maxAlternatives = 8; // servers that are kept of those that a PIMGoAway names
const maxServerURL = 256; // bytes of the URL of one

/** What holds for a server that has not turned the device away. */
const free: TurnedAway = { server: "", until: 0, why: new Error("free") };

/** Which server is tried next. */
export class Route {
  #alternatives: string[] = []; // named by the last PIMGoAway; forgotten after the next Welcome
  #good = ""; // the server of the last Welcome
  #turn = 0; // attempts since it was last reset; modulo the candidates, whose turn it is
  #busy: TurnedAway[] = []; // servers that are left alone

  readonly #servers: readonly string[];

  /** servers is Config.servers. */
  constructor(servers: readonly string[]) {
    this.#servers = servers;
  }

  /** Returns the candidates in the order in which they are tried. */
  #order(): string[] {
    const all = new Set([...this.#alternatives, this.#good, ...this.#servers]);
    all.delete("");
    return [...all];
  }

  /**
   * Returns the server of the next attempt, "" if all are busy. Those that are have no turn, nor have those
   * to avoid if there are others.
   */
  next(now: Duration, avoid: readonly string[] = []): string {
    const all = this.#order();
    const at = (turn: number) => all[turn % all.length] ?? "";
    const free = all.map((_, i) => this.#turn + i).filter((turn) => this.#busyWith(at(turn)).until <= now);
    const turn = free.find((t) => !avoid.includes(at(t))) ?? free[0];
    if (turn === undefined) {
      return "";
    }
    this.#turn = turn;
    return at(turn);
  }

  /** Returns the server of an attempt that is made now, see next. */
  take(now: Duration, avoid?: readonly string[]): string {
    const s = this.next(now, avoid);
    this.#turn++;
    return s;
  }

  /**
   * Keeps in mind that a server is not to be dialled for a while. It takes the place of what was said at
   * this URL before. Of too many refusals the oldest is forgotten.
   */
  leave(now: Duration, t: TurnedAway): void {
    const kept = this.#busy.filter((b) => b.until > now && b.server !== t.server);
    this.#busy = [...kept, t].slice(-this.#servers.length - maxBusy);
  }

  /** Returns what keeps a server from being dialled, or free. */
  #busyWith(server: string): TurnedAway {
    return this.#busy.reduce((last, b) => (b.until > last.until && sameServer(b.server, server) ? b : last), free);
  }

  /** Returns when the first server may be dialled that may be, and why none before; 0: one may be at any time. */
  freeAt(): TurnedAway {
    const all = this.#order().map((s) => this.#busyWith(s));
    return all.reduce((first, b) => (b.until < first.until ? b : first), { ...free, until: never });
  }

  /** Returns when the first of those that are busy may be dialled; never: none is. */
  busyUntil(now: Duration): Duration {
    const times = this.#order().map((s) => this.#busyWith(s).until);
    return Math.min(never, ...times.filter((at) => at > now));
  }

  /** Gives the first candidate its turn. */
  reset(): void {
    this.#turn = 0;
  }

  /**
   * Takes the gateways that a PIMGoAway names. They are trusted as far as the connection that named
   * them: if all configured servers are encrypted, gateways that are not are left out. If the
   * PIMGoAway names none, the next server has its turn, since this one has just sent the client away.
   */
  divert(named: readonly string[]): void {
    const guarded = this.#servers.every(encrypted);
    const kept = named.filter((s) => byteLength(s) <= maxServerURL && (encrypted(s) || !guarded));
    this.#alternatives = kept.slice(0, maxAlternatives);
    if (this.#alternatives.length > 0) {
      this.#turn = 0;
    }
  }

  /** Notes that server has sent a Welcome. */
  arrived(server: string): void {
    this.#alternatives = [];
    this.#good = server || this.#good;
    this.#turn = 0;
  }
}

function encrypted(server: string): boolean {
  const scheme = server.split("://", 1)[0] ?? "";
  return ["https", "wss", "tls"].includes(scheme.toLowerCase());
}
