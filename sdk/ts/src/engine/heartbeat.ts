import { type Millis } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { type Duration, hour, millis, minute, second } from "./duration.js";
import { type Network } from "./types.js";

// Heartbeats keep the path open: a middlebox forgets a connection on which nothing passes, some after
// 4 minutes, some after an hour, and every heartbeat costs a phone's radio. So the interval is found
// out for each network: it grows while heartbeats are answered, and falls below an interval that
// failed. Only a heartbeat that follows real silence proves anything.
//
// An interval that was found by failing is stable: it only falls. To try a longer one again would
// cost two connections every time, and most networks stay as they are. A network that was not used
// for a week may have changed, or its failures may have been chance: there the interval may grow
// again.

const firstHeartbeat = 210 * second;
export const maxHeartbeat = 10 * minute;
const minHeartbeat = minute;
const foregroundBeat = minute; // at most, while a person looks at the app
const beatStep = 60 * second;
const beatMargin = 20 * second; // on top of a beatStep, below an interval that failed
const beatSuccesses = 5; // in a row, to grow
const beatFailures = 2; // to fall back, without beatSuccesses between them
const beatSilence = 15 * second; // how long after a heartbeat its answers may come: frames so early do not break the silence
const maxNetworks = 16;
export const maxNetworkName = 128; // bytes
const stableFor = 7 * 24 * hour; // without use; then the interval may grow again

/**
 * The pace of the heartbeats. The times in networks are the server's, all others are on the monotonic
 * clock.
 */
export class Heart {
  /** The interval in force: it was announced to the server. */
  every: Duration = 0;
  /** A person looks at the app. */
  foreground = false;
  /** Networks are to be stored; a change of stable alone waits, see mayProbeAgain. */
  dirty = false;

  #network = "";
  readonly #networks = new Map<string, Network>();
  #successes = 0;
  #failures = 0;
  #longest: Duration = 0; // interval that the server permits
  #pingedAt: Duration = 0; // the last heartbeat, or Welcome
  #testing: Duration = 0; // the ping under way follows real silence of this interval; 0: it does not

  constructor(stored: readonly Network[]) {
    for (const n of stored) {
      if (n.every >= minHeartbeat && n.every <= maxHeartbeat && this.#networks.size < maxNetworks) {
        this.#networks.set(n.name, { ...n });
      }
    }
  }

  /** Returns what is to be stored of the networks. */
  rows(): Network[] {
    const rows = [...this.#networks.values()].map((n) => ({ ...n }));
    return rows.sort((a, b) => compareText(a.name, b.name));
  }

  /** Notes a Welcome, at now, of a server that permits intervals up to longest. */
  opened(now: Duration, longest: Duration): void {
    this.#longest = longest;
    this.every = this.#interval();
    this.#testing = 0;
    this.#pingedAt = now;
  }

  /** Notes that the answer to the ping under way will not be awaited: it proves nothing. */
  cutShort(): void {
    this.#testing = 0;
  }

  /** Changes to the network name. */
  onNetwork(name: string): void {
    this.#network = name;
    this.#successes = 0;
    this.#failures = 0;
    this.#testing = 0;
  }

  /** Returns what is known of the network in use. */
  #pace(): Network {
    const n = this.#networks.get(this.#network);
    return n ? { ...n } : { name: this.#network, every: firstHeartbeat, stable: false, used: 0 };
  }

  /** Returns the interval to announce, whatever the server permits. */
  wish(): Duration {
    const every = this.#pace().every;
    return this.foreground ? Math.min(every, foregroundBeat) : every;
  }

  /** Returns how far apart heartbeats should be: as wished, and permitted. */
  #interval(): Duration {
    return Math.min(this.wish(), this.#longest);
  }

  /**
   * Returns when the next heartbeat is due. A shorter interval holds at once, a longer one when the
   * server has been told.
   */
  beatAt(): Duration {
    return this.#pingedAt + Math.min(this.every, this.#interval());
  }

  /**
   * Notes that a heartbeat goes out now, and that it announces every. The line was silent, as far as
   * anybody knows, for the time silence.
   *
   * The heartbeat proves something only if it follows real silence, and the interval is the network's,
   * or the longest that the server permits.
   */
  beat(now: Duration, silence: Duration): void {
    const proves = this.every > minHeartbeat && this.every === Math.min(this.#pace().every, this.#longest);
    this.#testing = proves && silence >= this.every - beatSilence ? this.every : 0;
    this.every = this.#interval();
    this.#pingedAt = now;
  }

  /** Notes that a frame has come: the connection has outlived a heartbeat's silence. */
  answered(at: Millis): void {
    const tested = this.#testing;
    if (tested === 0) {
      return;
    }
    this.#testing = 0;
    this.#successes++;
    if (this.#successes < beatSuccesses) {
      return;
    }
    this.#successes = 0;
    this.#failures = 0;
    const n = this.#pace();
    if (!n.stable && n.every === tested && tested < maxHeartbeat) {
      n.every = Math.min(tested + beatStep, maxHeartbeat);
      this.#learn(n, at);
    }
  }

  /** Notes that a heartbeat may have found the connection dead. A single failure may be chance. */
  failed(at: Millis): void {
    const tested = this.#testing;
    if (tested === 0) {
      return;
    }
    this.#testing = 0;
    this.#successes = 0;
    this.#failures++;
    if (this.#failures >= beatFailures) {
      const n = this.#pace();
      n.every = Math.max(tested - beatStep - beatMargin, minHeartbeat);
      n.stable = true;
      this.#learn(n, at);
    }
  }

  /** Keeps what was found out about the network in use. */
  #learn(n: Network, at: Millis): void {
    this.#successes = 0;
    this.#failures = 0;
    n.used = at;
    this.#networks.set(n.name, n);
    if (this.#networks.size > maxNetworks) {
      this.#forgetOldest();
    }
    this.dirty = true;
  }

  #forgetOldest(): void {
    let oldest: Network | undefined;
    for (const n of this.#networks.values()) {
      if (n.name !== this.#network && (oldest === undefined || n.used < oldest.used)) {
        oldest = n;
      }
    }
    if (oldest !== undefined) {
      this.#networks.delete(oldest.name);
    }
  }

  /** Notes that there is, or was until now, a connection over the network in use. */
  used(at: Millis): void {
    const n = this.#networks.get(this.#network);
    if (n !== undefined) {
      n.used = at;
      this.dirty = true;
    }
  }

  /**
   * Lets the interval of the network in use grow again, if the network was not used for a week. The
   * change is stored with the next use, see used.
   */
  mayProbeAgain(at: Millis): void {
    const n = this.#networks.get(this.#network);
    if (n !== undefined && at - n.used >= millis(stableFor)) {
      n.stable = false;
    }
  }
}
