// A browser for tests in Node: its tabs share locks, databases and channels, and are shown and hidden.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { type Client } from "../src/index.js";
import { openIn } from "../src/client/client.js";
import { databaseName } from "../src/store/idb.js";
import { type Channel, type TabsEnvironment } from "../src/tabs/environment.js";
import { type Server } from "./server.js";
import { WebLocks } from "./weblocks.js";

/** A browser whose tabs are shown and hidden. */
export class Browser {
  readonly #server: Server;
  readonly #user: string;
  readonly #locks = new WebLocks();
  readonly #visible = new Map<string, { on: boolean; changed: () => void }>();

  constructor(server: Server, user: string) {
    this.#server = server;
    this.#user = user;
  }

  #env(tab: string, on: boolean): TabsEnvironment {
    const is = { on, changed: (): void => undefined };
    this.#visible.set(tab, is);
    return {
      locks: this.#locks.of(tab),
      channel: (name) => new BroadcastChannel(name) as unknown as Channel,
      visible: () => is.on,
      onVisible: (changed) => {
        is.changed = changed;
        return () => undefined;
      },
      silence: () => () => undefined,
      patience: (then) => {
        const timer = setTimeout(then, 1);
        return () => clearTimeout(timer);
      },
    };
  }

  show(tab: string, on: boolean): void {
    const is = this.#visible.get(tab);
    assert.ok(is);
    is.on = on;
    is.changed();
  }

  leader(): string | undefined {
    return this.#locks.holder(databaseName(this.#user, "browser"));
  }

  /** Opens a tab that is shown or hidden, and a client of the user in it. */
  open(tab: string, on: boolean): Promise<Client> {
    const token = (): string => this.#server.token(this.#user);
    const o = { server: this.#server.url, token, user: this.#user, device: "browser", backoffMin: 20, backoffMax: 100 };
    return openIn({ tabs: this.#env(tab, on) }, o);
  }
}
