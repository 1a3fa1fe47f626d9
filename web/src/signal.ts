import { useEffect, useState } from "preact/hooks";

/** Tells those who show something that it has changed: once for all that changes in one go. */
export class Signal {
  readonly #listeners = new Set<() => void>();
  #due = false;

  /** Has listener called after changes, until the function that it returns is called. */
  listen(listener: () => void): () => void {
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  ring(): void {
    if (this.#due) {
      return;
    }
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      this.#listeners.forEach((l) => l());
    });
  }
}

/** Renders the component again whenever signal rings. */
export function useSignal(signal: Signal): void {
  const [, again] = useState(0);
  useEffect(() => signal.listen(() => again((n) => n + 1)), [signal]);
}
