import { checkFunction, checkObject } from "../pim/arguments.js";

/** What a method that waits may be given. */
export interface Waiting {
  /** Ends the wait: the method rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Returns the signal of what a method that waits was given; it throws a PimError of kind "invalid" if there is none in it. */
export function signalOf(o: Waiting): AbortSignal | undefined {
  const { signal } = checkObject("options", o);
  if (signal !== undefined) {
    checkFunction("signal", (signal as AbortSignal | null)?.throwIfAborted);
  }
  return signal;
}

/** Returns what p comes to, or rejects with the reason of signal when that is aborted before. */
export async function orAborted<T>(p: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) {
    return p;
  }
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason as Error);
  });
  signal.addEventListener("abort", abort);
  if (signal.aborted) {
    abort();
  }
  try {
    return await Promise.race([p, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Wakes those who wait for something to change. They look again then. */
export class Bell {
  #waiting: (() => void)[] = [];

  /** Resolves at the next ring. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  ring(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((wake) => wake());
  }
}

/** Calls what the app has given. What it throws is reported like everything that nobody catches, and breaks nothing here. */
export function callApp<A extends unknown[]>(f: (...args: A) => void, ...args: A): void {
  try {
    f(...args);
  } catch (err) {
    queueMicrotask(() => {
      throw err;
    });
  }
}
