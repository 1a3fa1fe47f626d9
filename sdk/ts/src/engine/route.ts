import { byteLength } from "../pim/text.js";

const maxAlternatives = 8; // servers that are kept of those that a PIMGoAway names
const maxServerURL = 256; // bytes of the URL of one

/** Which server is tried next. */
export class Route {
  #alternatives: string[] = []; // named by the last PIMGoAway; forgotten after the next Welcome
  #good = ""; // the server of the last Welcome
  #turn = 0; // attempts since it was last reset; modulo the candidates, whose turn it is

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

  /** Returns the server of the next attempt; "" if there is none at all. */
  next(): string {
    const all = this.#order();
    return all[this.#turn % all.length] ?? "";
  }

  /** Returns the server of an attempt that is made now. */
  take(): string {
    const s = this.next();
    this.#turn++;
    return s;
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
