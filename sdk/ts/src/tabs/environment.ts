import { type SendEvent } from "../client/events.js";
import { type Session } from "../client/session.js";
import { type PimError } from "../pim/index.js";

/** What tabs need of a browser. */
export interface TabsEnvironment {
  locks: LockManager;
  channel: (name: string) => Channel;
  /** Reports whether a person sees the page. */
  visible: () => boolean;
  /** Has on called when that may have changed. The function that it returns ends that. */
  onVisible: (on: () => void) => () => void;
  /**
   * Calls then once a tab has been visible for long enough to lead instead of a hidden one. The function that it returns calls
   * that off.
   */
  patience: (then: () => void) => () => void;
  /** Calls then after some seconds, in which any leader answers. The function that it returns calls that off. */
  silence: (then: () => void) => () => void;
}

/** What a tab uses of a BroadcastChannel. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => unknown) | null;
  close(): void;
}

/** A session that this tab leads with. close gives up its store, too. */
export interface Led {
  session: Session;
  /** Greater than that of every tab that has led with this store before: what tabs say may come late. */
  term: number;
  /** No tab has led with this store before: it is new. */
  fresh: boolean;
  /** What became of messages before, as DatabaseStore.ended. */
  ended: readonly SendEvent[];
  /** Has on called when the store cannot be used any more; with kind "conflict": another tab has taken it. */
  onLost: (on: (err: PimError) => void) => void;
  close: () => Promise<void>;
}
