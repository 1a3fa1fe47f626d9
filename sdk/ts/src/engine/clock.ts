import { type Millis, nodesApart, orderSlack, orderWindow } from "../pim/index.js";
import { type Duration, millisecond, never, second } from "./duration.js";
import { type Time } from "./io.js";

/**
 * When samples are taken after Welcome, which is one itself, and after a jump. They do not wait for
 * each other's answers: otherwise, on a link of 700 ms there and back, a message sent after a second
 * would rely on one or two samples. The samples after loginSamples are taken only while the clock is
 * not known to accuracy.
 */
const samplesAt: readonly Duration[] = [
  ...[0, 50, 100, 200, 400].map((ms) => ms * millisecond),
  ...[1, 2, 3, 4, 5].map((s) => s * second),
];
const loginSamples = 5;
const accuracy = 100 * millisecond;
/** Of the wall clock against the monotonic one: so much, or more, is a jump. */
export const jumpAtLeast = 500 * millisecond;
const driftPart = 20_000; // 1/20,000 is 50 ppm: two oscillators against each other

/**
 * How far apart the bounds may be that Welcome gives. A Hello may have waited for seconds at a node that
 * has just started, or has lost another one: the middle is off by half of that, and local times that are
 * ahead by more than orderSlack are cut.
 */
const slowWelcome = orderSlack * millisecond;

/**
 * What a sample says: by how much the server's clock was set back, 0 if it may also be the clock of
 * another node, which goes by the same time but is a little behind; and whether the clock was not known
 * before.
 */
export interface Sampled {
  back: Duration;
  first: boolean;
}

const nothingSaid: Sampled = { back: 0, first: false };

/** What the clocks show. */
export interface Times {
  wall: Millis; // the device's wall clock
  server: Millis; // the server's time, as well as it is known
  known: boolean; // the server's time is known
}

/**
 * Estimates the server's clock: its offset, the server's time since 1970 minus Time.mono. It is
 * anchored to the monotonic clock, so a jump of the wall clock does not move it.
 *
 * A frame that is transmitted at t1 arrives at t2 > t1, so the offset is below t2−t1; and its answer,
 * transmitted at t3, arrives at t4, so it is above t3−t4. Each sample narrows these bounds, and the
 * estimate is their middle: it takes the fastest way there of one sample and the fastest way back of
 * another. The textbook's best round trip needs both in one. client/engine/clock.go has the errors of
 * both in figures.
 *
 * The bounds widen as oscillators drift, so that old samples give way.
 */
export class Clock {
  /** low and high are set; until then the wall clock serves. */
  known = false;
  /**
   * No sample was taken since a jump, or on this connection: the monotonic clock may have stood still
   * since the last one. Or Welcome is the only one of this connection, and was slow.
   */
  doubt = false;

  // The offset is base milliseconds and low to high nanoseconds. The offset alone has more
  // nanoseconds than a number can hold.
  #base: Millis = 0;
  #low: Duration = 0;
  #high: Duration = 0;
  #setAt: Duration = 0; // when low and high were set

  #since: Duration = 0; // samples that were transmitted before this time are void
  #begun: Duration = 0; // when samplesAt counts from
  #taken = 0; // how many of samplesAt were taken

  /**
   * Takes a sample: transmitted at t1 and received at t4 on the monotonic clock, received and answered
   * at t2 and t3 on the server's.
   */
  add(t1: Duration, t4: Duration, t2: Millis, t3: Millis): Sampled {
    if (t1 < this.#since || t1 > t4) {
      return nothingSaid;
    }
    if (!this.known) {
      this.#base = t3;
    }
    // t2 is cut to milliseconds: the frame arrived up to 1 ms later.
    const back = (t3 - this.#base) * millisecond - t4;
    const there = (t2 + 1 - this.#base) * millisecond - t1;
    // Unless the server's clock jumped in between, they are in order.
    let low = Math.min(back, there);
    let high = Math.max(back, there);
    let setBack: Duration = 0;
    if (this.known) {
      const drift = Math.trunc((t4 - this.#setAt) / driftPart);
      const narrowLow = Math.max(low, this.#low - drift);
      const narrowHigh = Math.min(high, this.#high + drift);
      if (narrowLow > narrowHigh) {
        // The server's clock has jumped: the newest sample is right. A monotonic clock that stood
        // still looks like a jump forward.
        if (this.#low - drift - high > nodesApart * millisecond) {
          setBack = Math.floor((this.#low + this.#high) / 2) - Math.floor((low + high) / 2);
        }
      } else if (!this.doubt) {
        low = narrowLow;
        high = narrowHigh;
      }
    }
    const first = !this.known;
    this.#low = low;
    this.#high = high;
    this.#setAt = t4;
    this.known = true;
    this.doubt = false;
    return { back: setBack, first };
  }

  /** Returns the server's time at now, as well as it is known. */
  at(now: Time): Millis {
    if (!this.known) {
      return now.wall;
    }
    const offset = this.#low + Math.trunc((this.#high - this.#low) / 2);
    return this.#base + Math.floor((now.mono + offset) / millisecond);
  }

  /** Returns what the clocks show at now. */
  times(now: Time): Times {
    return { wall: now.wall, server: this.at(now), known: this.known };
  }

  /** Returns when the next sample is to be taken. */
  #dueAt(): Duration {
    const accurate = !this.doubt && this.#high - this.#low <= 2 * accuracy;
    const next = samplesAt[this.#taken];
    if (next === undefined || (this.#taken >= loginSamples && accurate)) {
      return never;
    }
    return this.#begun + next;
  }

  /** Returns when takeDue is to be called; never while the shell does not read. */
  deadline(paused: boolean): Duration {
    return paused ? never : this.#dueAt();
  }

  /** Reports whether a sample is to be taken now. If several are due, one is taken for all. */
  takeDue(now: Duration): boolean {
    const due = now >= this.#dueAt();
    while (now >= this.#dueAt()) {
      this.#taken++;
    }
    return due;
  }

  /**
   * Starts over on a new connection, whose Hello was transmitted at t1, and whose Welcome came at t4
   * and was transmitted at welcome by the server's clock. The samples of the connection before may be
   * older than a sleep, in which the monotonic clock stood still.
   */
  calibrate(t1: Duration, t4: Duration, welcome: Millis): Sampled {
    this.doubt = true;
    const said = this.add(t1, t4, welcome, welcome);
    this.doubt ||= this.#high - this.#low > slowWelcome;
    this.#anew(t4);
    return said;
  }

  /** Makes samplesAt count from now. */
  #anew(now: Duration): void {
    this.#begun = now;
    this.#taken = 0;
  }

  /**
   * Takes a jump of the wall clock against the monotonic one. Either the wall clock was set, or the
   * device slept while the monotonic clock stood still; nobody can tell, so what was known is in
   * doubt, and first transmissions wait for a new sample. Before Welcome nothing is transmitted
   * anyway.
   */
  jumped(now: Duration): void {
    this.#since = now;
    this.doubt = this.known;
    this.#anew(now);
  }

  /**
   * Goes on after a pause. A sample whose answer was read late does no harm to bounds that hold
   * already. While they are in doubt, only a new sample will do.
   */
  resumed(now: Duration): void {
    if (this.doubt) {
      this.#since = now;
      this.#anew(now);
    }
  }

  /**
   * Returns the local time of a message that is first transmitted now; last is that of the message
   * before. It grows strictly on a device, over restarts too, unless the server's clock was set back,
   * see add. If the local times were held then, they would hardly grow for as long as the clock was set
   * back, and a message that is sent again would find no place among them. Where another node is only a
   * little behind they are held: otherwise what is sent just after a device has moved to it would be
   * displayed before what was sent just before.
   */
  localTime(now: Time, last: Millis): Millis {
    const at = this.at(now);
    if (this.known && last - at > orderWindow) {
      return at; // the server's clock was set back before this process looked
    }
    return Math.max(at, last + 1);
  }
}
