import {
  applyCommand,
  checkCommand,
  type Command,
  CommandKind,
  entityOf,
  type Entry,
  EntryKind,
  type Millis,
  noSetting,
  own,
  type Seq,
  type Setting,
} from "../pim/index.js";
import { compareText, equalBytes } from "../pim/text.js";
import { encodeCommand } from "../wire/index.js";
import { readCommand, showSetting } from "./commands.js";
import { isBehind } from "./conversation.js";
import { type Engine } from "./engine.js";
import { refusal } from "./refusal.js";
import { type Settings } from "./settings.js";

/** How many commands that are kept aside are read at once. */
export const commandPage = 1000;

/** The last command that is kept aside of one entity. */
interface Wish {
  setting: Setting;
  entry: Entry;
}

/**
 * Has, for each entity of the user's own log, the last of the commands that the server has lost and
 * the store keeps aside. That command is sent again, unless a later one has replaced it since. All
 * maps have entities as keys.
 */
export class Wishes {
  /** How many of the commands kept aside were read so far. */
  skip = 0;
  #last = new Map<string, Wish>();
  /**
   * The local times of the newest commands that were obeyed since the own log was taken back;
   * undefined: they are not noted.
   */
  #locals: Map<string, Millis> | undefined;
  #cleared = new Set<string>(); // the settings that forget dropped
  /**
   * The entities of commands that were acknowledged, and whose entries have not come. The app is shown
   * them as they will be.
   */
  readonly #expected = new Set<string>();
  /**
   * The last read positions that are still there, of the conversations that were taken back;
   * undefined: an earlier process took them back, so they are not known.
   */
  #positions: Map<string, Command> | undefined = new Map();

  /** Notes that the own log was taken back. */
  begin(): void {
    this.skip = 0;
    this.#last = new Map();
    this.#locals = new Map();
  }

  /** Notes that nothing is kept aside, and that no conversation is taken back. */
  reset(): void {
    this.skip = 0;
    this.#last = new Map();
    this.#locals = undefined;
    this.#cleared = new Set();
    this.#positions = new Map();
  }

  /** Forgets the read positions: no conversation is taken back. */
  believed(): void {
    this.#positions = new Map();
  }

  /** Notes that an earlier process may have taken conversations back, nobody knows how far. */
  takenBackBefore(): void {
    this.#positions = undefined;
  }

  /** Drops all settings, because the own log will be obeyed anew. */
  forget(s: Settings): void {
    for (const entity of s.entities()) {
      this.#cleared.add(entity);
    }
    s.clear();
  }

  /** Notes that a command of entity was acknowledged before its entry has come. */
  expect(entity: string): void {
    this.#expected.add(entity);
  }

  /** Notes the local time of a command that was obeyed for entity. */
  obeyed(entity: string, local: Millis): void {
    this.#expected.delete(entity);
    this.#locals?.set(entity, Math.max(this.#locals.get(entity) ?? 0, local));
  }

  /** Notes that a conversation was taken back, to the position that read has. */
  cut(read: Command): void {
    const entity = entityOf(read);
    const was = this.#positions?.get(entity);
    if (was === undefined || read.seq < was.seq) {
      this.#positions?.set(entity, read);
    }
  }

  /** Takes a page of commands that are kept aside, and reports whether it is the last. */
  page(entries: readonly Entry[]): boolean {
    for (const entry of entries) {
      const cmd = entry.kind === EntryKind.command ? readCommand(entry.payload) : undefined;
      if (cmd === undefined || refusal(() => checkCommand(cmd)) !== undefined) {
        continue;
      }
      const before = this.#last.get(entityOf(cmd))?.setting ?? noSetting;
      const setting = applyCommand(before, cmd, entry.seq, entry.device);
      if (setting !== before) {
        this.#last.set(entityOf(cmd), { setting, entry });
      }
    }
    this.skip += entries.length;
    return entries.length < commandPage;
  }

  /** Returns the entities with a wish, in order. */
  entities(): string[] {
    return [...this.#last.keys()].sort(compareText);
  }

  /** Returns what the wish for entity is about; undefined if there is no wish. */
  subject(entity: string): string | undefined {
    return this.#last.get(entity)?.setting.subject;
  }

  /**
   * Ends a reading: the next page is the first again. It returns the entities whose settings forget
   * has dropped, in order.
   */
  end(): string[] {
    const cleared = [...this.#cleared].sort(compareText);
    this.skip = 0;
    this.#cleared = new Set();
    return cleared;
  }

  /**
   * Returns the entry that is to be sent again for entity; undefined if there is none. now is the
   * present setting, undefined if there is none; the own log is known up to the seq log, and the
   * conversation that a read position is about up to the seq read.
   */
  again(entity: string, now: Setting | undefined, log: Seq, read: Seq): Entry | undefined {
    const wish = this.#last.get(entity);
    if (wish === undefined) {
      return undefined;
    }
    const cmd = this.#stillThere(entity, wish.setting, read);
    if (cmd === undefined || !this.#stillWanted(entity, cmd, wish.entry, now)) {
      return undefined;
    }
    return { ...wish.entry, payload: encodeCommand({ ...cmd, known: log }) };
  }

  /** Reports whether cmd, the command of entry, is not replaced by what entity has come to. */
  #stillWanted(entity: string, cmd: Command, entry: Entry, now: Setting | undefined): boolean {
    if (cmd.kind === CommandKind.read) {
      return cmd.seq > (now?.seq ?? 0);
    }
    if (now === undefined) {
      return true;
    }
    const same = now.removed === cmd.removed && now.until === cmd.until;
    if (same && equalBytes(now.value, cmd.value) && equalBytes(now.unknown, cmd.unknown)) {
      return false;
    }
    return (this.#locals?.get(entity) ?? 0) < entry.local;
  }

  /**
   * Cuts a read position to the part of its conversation that is still there; undefined if nothing is.
   * If an earlier process has taken the conversation back, nobody knows that part, and the position is
   * given up. Other commands stay as they are. known is the device's position in the conversation.
   */
  #stillThere(entity: string, cmd: Command, known: Seq): Command | undefined {
    if (cmd.kind !== CommandKind.read) {
      return cmd;
    }
    if (this.#positions === undefined) {
      return undefined;
    }
    const cut = this.#positions.get(entity);
    const left = cut !== undefined && cut.seq < cmd.seq ? { ...cmd, seq: cut.seq, count: cut.count, named: 0, all: 0 } : cmd;
    return left.seq > 0 && left.seq <= known ? left : undefined;
  }

  /** Takes out the entities of commands whose entries have not come, in order. */
  takeExpected(): string[] {
    const entities = [...this.#expected].sort(compareText);
    this.#expected.clear();
    return entities;
  }
}

/**
 * Shows the settings of commands whose entries have not come, once this device has all of the own log:
 * the server has lost them.
 */
export function giveUpExpected(e: Engine): void {
  const c = e.conversations.byID.get(own(e.fx.meta.user));
  if (e.fx.meta.doubt || (c !== undefined && (c.doubt !== undefined || isBehind(c)))) {
    return;
  }
  for (const entity of e.wishes.takeExpected()) {
    showSetting(e, entity);
  }
}
