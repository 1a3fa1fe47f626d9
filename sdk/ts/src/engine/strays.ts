import { Code } from "../wire/index.js";
import { type Duration, minute } from "./duration.js";

const maxStrays = 8;
const strayFor = 2 * minute; // how long a stray Hello may be on its way

/**
 * Counts the Hellos whose connections were left before an answer came. A stray Hello may reach the
 * server after a later Hello, and replace that connection. Then the device has not connected
 * elsewhere: it has replaced itself.
 */
export class Strays {
  #n = 0;
  #at: Duration = 0; // of the last of them

  /** Takes note that a Hello may still be on its way, and that nobody awaits its answer. */
  note(now: Duration): void {
    this.#n = Math.min(this.#n + 1, maxStrays);
    this.#at = now;
  }

  /**
   * Reports whether the server may have ended the connection with code because a stray Hello of this
   * device has replaced it. It uses up that stray Hello.
   */
  useUp(code: number, now: Duration): boolean {
    if (code !== Code.replaced || this.#n === 0 || now - this.#at > strayFor) {
      return false;
    }
    this.#n--;
    return true;
  }
}
