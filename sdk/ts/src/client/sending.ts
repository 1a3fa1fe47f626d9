import { type Pending, type Sent } from "../engine/index.js";
import { newSent } from "../engine/types.js";
import { type ClientMessageID, PimError } from "../pim/index.js";
import { type SendEvent } from "./events.js";
import { Bell, orAborted, signalOf, type Waiting } from "./wait.js";

/** What has become of a message that does not go on by itself: one of the two. */
interface Outcome {
  sent?: Sent;
  err?: PimError;
}

/** A message on its way. */
export class Sending {
  /** The client message ID. The SendEvents of the message have it, after a restart too. */
  readonly id: ClientMessageID;
  /** The message is in the outbox. Only Core sets it. */
  accepted = false;
  readonly #all: Sendings;
  #outcome: Outcome | undefined;

  /** Only a Client makes one. */
  constructor(all: Sendings, id: ClientMessageID) {
    this.#all = all;
    this.id = id;
  }

  /**
   * Waits until the server has the message. If the message has failed, it throws a PimError, and the message stays in the outbox for
   * Client.resend or discard. If the client was closed, it throws errClosed, and the message goes on when the store is opened again.
   * While the client has stopped, it throws why; the message stays in the outbox and goes on after Client.reconnect, and wait may be
   * called again. If a command was superseded, it waits for the command in its place. It goes on when another tab takes over. Only
   * if this tab has stood still while many messages were sent, or the tab before was of an older version that does not store what
   * became of a message, it throws a PimError of kind "unknown": an entry whose clientID is this id says that it was sent.
   */
  async wait(o: Waiting = {}): Promise<Sent> {
    const signal = signalOf(o);
    for (;;) {
      signal?.throwIfAborted();
      const { sent, err = this.#all.stopped } = this.#outcome ?? {};
      if (sent !== undefined) {
        return sent;
      }
      if (err !== undefined) {
        throw err;
      }
      await orAborted(this.#all.bell.wait(), signal);
    }
  }

  /** Ends the wait. Only Sendings calls it. */
  settle(outcome: Outcome): void {
    this.#outcome = outcome;
  }
}

/** What Sendings.reset returns. */
interface Reset {
  left(outbox: readonly Pending[]): ClientMessageID[];
  with(outbox: readonly Pending[], ended: readonly SendEvent[]): void;
}

/** All Sendings of a client that have no outcome yet. */
export class Sendings {
  /** Rings when one has an outcome, or the client has stopped. */
  readonly bell = new Bell();
  /** Why the client has stopped; undefined if it has not. */
  stopped: PimError | undefined;
  readonly #byID = new Map<ClientMessageID, Sending[]>();

  /** Returns a new Sending of the message id. */
  add(id: ClientMessageID): Sending {
    const s = new Sending(this, id);
    this.#byID.set(id, [...(this.#byID.get(id) ?? []), s]);
    return s;
  }

  /** Removes a Sending of the message id. */
  forget(id: ClientMessageID, s: Sending): void {
    const rest = this.#byID.get(id)?.filter((other) => other !== s) ?? [];
    if (rest.length > 0) {
      this.#byID.set(id, rest);
    } else {
      this.#byID.delete(id);
    }
  }

  /**
   * Ends the Sendings of a message that will not go on by itself. It moves those of a superseded command to the command in its place.
   */
  reached(ev: SendEvent): void {
    switch (ev.state) {
      case "sent":
        this.#settle(ev.id, ev.sent === undefined ? {} : { sent: ev.sent });
        break;
      case "failed":
        this.#settle(ev.id, { err: ev.err ?? new PimError("unknown", "the message has failed") });
        break;
      case "discarded":
        this.#settle(ev.id, { err: new PimError("invalid", "the message was discarded") });
        break;
      case "superseded":
        if (ev.by === undefined) {
          // no command took its place: there was nothing to do
          this.#settle(ev.id, { sent: newSent(ev.conversation) });
          return;
        }
        this.#byID.set(ev.by, [...(this.#byID.get(ev.by) ?? []), ...(this.#byID.get(ev.id) ?? [])]);
        this.#byID.delete(ev.id);
    }
  }

  /**
   * Notes which messages are in the outbox, before it is read because updates were missed. Of what it returns, left says which of
   * them are in it no more, and with ends those of these Sendings whose messages have failed or have left the outbox: by what is
   * known of their end (Session.ended), or, if nothing is, with "unknown". Of messages that are queued later, this client hears.
   */
  reset(): Reset {
    const noted = [...this.#byID].flatMap(([id, all]) => all.filter((s) => s.accepted).map((s) => ({ id, s })));
    return {
      left: (outbox) => {
        const known = new Set(outbox.map((p) => p.id));
        return [...new Set(noted.map(({ id }) => id))].filter((id) => !known.has(id));
      },
      with: (outbox, ended) => {
        ended.forEach((ev) => this.reached(ev));
        const known = new Map(outbox.map((p) => [p.id, p]));
        for (const { s } of noted) {
          const [id] = [...this.#byID].find(([, all]) => all.includes(s)) ?? []; // another one, if it was superseded
          const p = id === undefined ? undefined : known.get(id);
          if (id !== undefined && p === undefined) {
            const said = "the message has left the outbox, and this tab has not heard why: it was sent or discarded";
            this.#end(id, s, { err: new PimError("unknown", said) });
          } else if (id !== undefined && p?.state === "failed") {
            this.#end(id, s, { err: p.err ?? new PimError("unknown", "the message has failed") });
          }
        }
      },
    };
  }

  /** Ends all Sendings with err: this client will not hear of their answers. */
  settleAll(err: PimError): void {
    [...this.#byID.keys()].forEach((id) => this.#settle(id, { err }));
  }

  /** Takes note of why the client has stopped; undefined: it goes on. */
  stop(err: PimError | undefined): void {
    this.stopped = err;
    this.bell.ring();
  }

  #settle(id: ClientMessageID, outcome: Outcome): void {
    this.#byID.get(id)?.forEach((s) => s.settle(outcome));
    this.#byID.delete(id);
    this.bell.ring();
  }

  #end(id: ClientMessageID, s: Sending, outcome: Outcome): void {
    s.settle(outcome);
    this.forget(id, s);
    this.bell.ring();
  }
}
