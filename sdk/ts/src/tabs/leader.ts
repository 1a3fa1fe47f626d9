import { isEnd, type SendEvent } from "../client/events.js";
import { type AppInput, type AskInput, type PageStart, type Session, type Update } from "../client/session.js";
import { type ClientMessageID, type ConversationID, type Seq } from "../pim/index.js";
import { type Call } from "./channel.js";
import { mergedOf, type Says, saysNothing } from "./says.js";

/** All tabs hear of a new network; only the first of them within this time is heeded, in milliseconds. */
const networkAfter = 1_000;
/** Of so many messages that have left the outbox is remembered what became of them. */
const mostEnded = 1_000;

/** The session of the tab that leads, for all tabs: what they say of themselves becomes one thing. */
export class Leader {
  readonly session: Session;
  readonly #says = new Map<string, Says>();
  readonly #given = saysNothing(); // what the session was given
  #turn: Promise<unknown> = Promise.resolve();
  readonly #ended = new Map<ClientMessageID, SendEvent>(); // the last mostEnded messages that have left the outbox
  #network: { name: string; at: number } | undefined;

  /** ended is what became of messages before this tab led. */
  constructor(session: Session, ended: readonly SendEvent[] = []) {
    this.session = session;
    ended.forEach((ev) => this.#ended.set(ev.id, ev));
  }

  /** Carries out what a tab calls. */
  run(tab: string, { method, args }: Call, signal?: AbortSignal): Promise<unknown> {
    const s = this.session;
    const [a, b, c] = args;
    const conversation = a as ConversationID;
    switch (method) {
      case "say":
        return this.#say(tab, a as Says);
      case "do":
        return this.#do(a as AppInput);
      case "ask":
        return s.ask(a as AskInput, signal);
      case "fill":
        return s.fill(conversation, b as Seq, c as number, signal);
      case "page":
        return s.page(conversation, b as PageStart | undefined, c as number);
      case "messages":
        return s.messages(conversation, b as Seq, c as Seq);
      case "folds":
        return s.folds(conversation, b as Seq, c as Seq);
      case "outbox":
        return s.outbox(conversation);
      case "ended":
        return Promise.resolve(this.#endedOf(a as ClientMessageID[]));
      case "rows":
        return s.rows(a as ConversationID | undefined);
      case "entriesAfter":
        return s.entriesAfter(conversation, b as Seq, c as number);
      case "start":
        return s.start();
    }
  }

  /** Remembers what has become of a message, for tabs that have not heard it. */
  note(update: Update): void {
    if (update.type === "event" && isEnd(update.event)) {
      const { event } = update;
      this.#ended.delete(event.id); // it comes last now
      this.#ended.set(event.id, event);
      const [oldest] = this.#ended.keys();
      if (oldest !== undefined && this.#ended.size > mostEnded) {
        this.#ended.delete(oldest);
      }
    }
  }

  /** Returns what has become of messages, and of the commands in the place of those that were superseded. */
  #endedOf(ids: readonly ClientMessageID[]): SendEvent[] {
    const wanted = new Set(ids);
    for (const id of wanted) {
      const by = this.#ended.get(id)?.by;
      if (by !== undefined) {
        wanted.add(by); // which this loop reaches, too
      }
    }
    return [...this.#ended.values()].filter((ev) => wanted.has(ev.id));
  }

  /** A tab is gone, and what it has said with it. */
  drop(tab: string): void {
    if (this.#says.delete(tab)) {
      this.#merge().catch(() => undefined); // the session has ended
    }
  }

  #say(tab: string, says: Says): Promise<void> {
    this.#says.delete(tab); // the tab that has spoken last comes last
    this.#says.set(tab, says);
    return this.#merge();
  }

  async #do(input: AppInput): Promise<void> {
    if (input.type === "networkChanged") {
      const { name } = input;
      const at = Date.now();
      if (this.#network && this.#network.name === name && Math.abs(at - this.#network.at) < networkAfter) {
        return;
      }
      this.#network = { name, at };
    }
    await this.session.do(input);
  }

  /** Gives the session what differs in what all tabs say together. */
  #merge(): Promise<void> {
    const merged = this.#turn.then(async () => {
      const all = [...this.#says.values()];
      const looking = all.filter((says) => says.foreground);
      const [was, is] = [this.#given, mergedOf(all, looking.length > 0 ? looking : all)];
      this.session.hold(is.hold);
      // While nobody looks nothing is read, so the end of that comes first, and its beginning last.
      await this.#give(was.foreground && !is.foreground, { type: "foreground", on: false }, () => (was.foreground = false));
      for (const conversation of new Set([...was.reading, ...is.reading])) {
        const on = is.reading.includes(conversation);
        const input: AppInput = { type: "reading", conversation, on };
        await this.#give(on !== was.reading.includes(conversation), input, () => {
          was.reading = on ? [...was.reading, conversation] : was.reading.filter((c) => c !== conversation);
        });
      }
      await this.#give(is.foreground && !was.foreground, { type: "foreground", on: true }, () => (was.foreground = true));
      await this.#give(is.open !== was.open, { type: "open", conversation: is.open }, () => (was.open = is.open));
      const differs = JSON.stringify(is.look) !== JSON.stringify(was.look);
      await this.#give(differs, { type: "look", ...is.look }, () => (was.look = is.look));
      await this.#give(is.online !== was.online, { type: "online", on: is.online }, () => (was.online = is.online));
    });
    this.#turn = merged.catch(() => undefined);
    return merged;
  }

  async #give(differs: boolean, input: AppInput, given: () => void): Promise<void> {
    if (differs) {
      await this.session.do(input);
      given();
    }
  }
}
