import { LocalSession } from "../client/local.js";
import { type Checked } from "../client/options.js";
import { type Session } from "../client/session.js";
import { databaseName, openDatabase } from "../store/idb.js";
import { type Led, type TabsEnvironment } from "./environment.js";
import { TabSession } from "./tabs.js";

/** For how long a tab is visible before it wants to lead instead of a hidden one: who looks for a tab passes others. */
const patience = 1_000; // ms
/** After how long what waits for a leader's answer is looked at. */
const silence = 5_000; // ms

/** Returns what tabs need of this browser; undefined if this is none, or the page was not loaded by HTTPS or from localhost. */
export function browserTabs(): TabsEnvironment | undefined {
  if (typeof document === "undefined" || typeof BroadcastChannel === "undefined" || typeof indexedDB === "undefined") {
    return undefined;
  }
  const locks = navigator.locks as LockManager | undefined;
  return (
    locks && {
      locks,
      channel: (name) => new BroadcastChannel(name),
      visible: () => document.visibilityState === "visible",
      onVisible: (on) => {
        document.addEventListener("visibilitychange", on);
        return () => document.removeEventListener("visibilitychange", on);
      },
      patience: (then) => {
        const timer = setTimeout(then, patience);
        return () => clearTimeout(timer);
      },
      silence: (then) => {
        const timer = setTimeout(then, silence);
        return () => clearTimeout(timer);
      },
    }
  );
}

/** Joins the tabs of a user's device, which have its database and one connection together. It throws what openDatabase throws. */
export function joinTabs(o: Checked, env: TabsEnvironment): Promise<Session> {
  const { user } = o;
  const { device, onBlocked } = o.options;
  const lead = async (): Promise<Led> => {
    const store = await openDatabase({ user, device, locked: true, ...(onBlocked && { onBlocked }) });
    const session = await LocalSession.open(o, store, true);
    const onLost: Led["onLost"] = (on) => {
      store.onLost(on);
      session.onBroken(on);
    };
    return { session, term: store.term, fresh: store.fresh, ended: store.ended, onLost, close: () => session.close() };
  };
  return TabSession.open(databaseName(user, device), env, lead);
}
