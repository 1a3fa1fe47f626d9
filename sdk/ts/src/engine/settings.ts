import { applyCommand, type Command, type DeviceID, noSetting, type Seq, type Setting } from "../pim/index.js";
import { type OutMessage } from "./outbox.js";
import { type Setting as Row } from "./types.js";

const maxSettings = 100_000; // entities of a user

/**
 * What the user's own log has come to, by entity, without the commands that are in the outbox.
 */
export class Settings {
  readonly #byEntity = new Map<string, Setting>();

  constructor(rows: readonly Row[]) {
    for (const { entity, ...setting } of rows) {
      this.#byEntity.set(entity, setting);
    }
  }

  /** Returns the setting of entity; undefined if there is none. */
  get(entity: string): Setting | undefined {
    return this.#byEntity.get(entity);
  }

  /** Returns how many entities have a setting. */
  get size(): number {
    return this.#byEntity.size;
  }

  entities(): string[] {
    return [...this.#byEntity.keys()];
  }

  clear(): void {
    this.#byEntity.clear();
  }

  /** Reports whether there is no room for entity. */
  full(entity: string): boolean {
    return !this.#byEntity.has(entity) && this.#byEntity.size >= maxSettings;
  }

  /**
   * Applies the next command about entity, the entry at seq that device has given. It returns the
   * setting if that has changed.
   */
  apply(entity: string, cmd: Command, seq: Seq, device: DeviceID): Setting | undefined {
    const before = this.#byEntity.get(entity) ?? noSetting;
    const after = applyCommand(before, cmd, seq, device);
    if (after === before) {
      return undefined;
    }
    this.#byEntity.set(entity, after);
    return after;
  }
}

/** Returns what setting will come to with the commands of device that are pending. */
export function withPending(setting: Setting, pending: readonly OutMessage[], device: DeviceID): Setting {
  return pending.reduce((s, { command }) => {
    return command === undefined ? s : applyCommand(s, command, Math.max(s.at, s.deleted, command.known) + 1, device);
  }, setting);
}
