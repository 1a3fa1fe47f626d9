import { type Clock } from "../src/client/clock.js";
import { type Socket, type SocketConstructor } from "../src/client/connection.js";
import { openIn } from "../src/client/client.js";
import { millisecond, second } from "../src/engine/index.js";
import { type Client, type Options } from "../src/index.js";
import { type Bodies, decode, encode, type Frame, type FrameInit, type FrameName } from "../src/wire/index.js";

/** A clock that goes on when a test says so. */
export class VirtualClock implements Clock {
  #mono = 1_000 * second;
  #slept = 0; // ms for which the device slept: the wall clock went on without the monotonic one
  #timers: { at: number; f: () => void }[] = [];

  now(): { mono: number; wall: number } {
    return { mono: this.#mono, wall: 1_700_000_000_000 + Math.trunc(this.#mono / millisecond) + this.#slept };
  }

  after(d: number, f: () => void): () => void {
    const timer = { at: this.#mono + Math.max(d, 0), f };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((t) => t !== timer);
    };
  }

  /** Lets s seconds pass: timers fire in their order, and all that follows from each is done before the next. */
  async pass(s: number): Promise<void> {
    const end = this.#mono + s * second;
    await settled();
    for (;;) {
      const [next] = this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) {
        this.#mono = end;
        return;
      }
      this.#timers = this.#timers.filter((t) => t !== next);
      this.#mono = Math.max(this.#mono, next.at);
      next.f();
      await settled();
    }
  }

  /** The device sleeps for s seconds. */
  sleep(s: number): void {
    this.#slept += s * 1_000;
  }
}

/** Resolves when nothing is left to be done but what waits for timers. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A network with servers that answer as long as they are told to, without a socket of the system. */
export class Network {
  readonly clock = new VirtualClock();
  /** All connections that were tried, in order. */
  readonly sockets: FakeSocket[] = [];
  /** What a client has said, by all connections, in order. */
  readonly said: Frame[] = [];
  /** Hosts that do not answer. */
  readonly holes = new Set<string>();
  /** Answers a frame. Tests replace it. */
  answer: (frame: Frame, on: FakeSocket) => void = (frame, on) => this.answers(frame, on);
  /** Frames have so many bytes on the way out until take. */
  slow = false;
  #seq = 0;

  /** Makes WebSockets of this network. */
  get webSocket(): SocketConstructor {
    const network = this;
    return class extends FakeSocket {
      constructor(url: string) {
        super(network, url);
      }
    };
  }

  /** Opens a client of alice in this network. */
  open(o: Partial<Options> = {}): Promise<Client> {
    const { webSocket } = this;
    const all: Options = {
      server: "ws://one",
      insecure: true,
      token: "token",
      user: "alice",
      device: "phone",
      webSocket,
      ...o,
    };
    return openIn({ clock: this.clock, random: () => 0.5 }, all);
  }

  /** Returns the frames of a type that were said. */
  frames<N extends FrameName>(type: N): Bodies[N][] {
    return this.said.filter((f) => f.type === type).map((f) => f.body as Bodies[N]);
  }

  /** Answers a frame as a server does that has no conversation. */
  answers(frame: Frame, on: FakeSocket): void {
    const now = this.clock.now().wall;
    switch (frame.type) {
      case "Hello":
        on.say({
          type: "Welcome",
          body: { version: 1, user: "alice", serverMs: now, limits: { idleMs: 300_000, heartbeatMs: 600_000 } },
        });
        break;
      case "PIMSyncReq":
        on.say({ type: "PIMSyncResp", body: { requestId: frame.body.requestId } });
        break;
      case "PIMTimeReq":
        on.say({ type: "PIMTimeResp", body: { t1: frame.body.t1, t2: now, t3: now } });
        break;
      case "PIMPing":
        on.say({ type: "PIMPong", body: { nonce: frame.body.nonce, serverMs: now } });
        break;
      case "PIMSendReq": {
        const { clientMessageId, conversation } = frame.body;
        on.say({
          type: "PIMSendAck",
          body: { clientMessageId, conversation, seq: ++this.#seq, serverMs: now, count: this.#seq },
        });
      }
    }
  }
}

/** A WebSocket without a network. */
export class FakeSocket implements Socket {
  binaryType = "";
  bufferedAmount = 0;
  open = false;
  closed = false;
  readonly host: string;
  readonly #network: Network;
  readonly #listeners: { type: string; listener: (ev: never) => void }[] = [];

  constructor(network: Network, url: string) {
    this.#network = network;
    this.host = new URL(url).hostname;
    network.sockets.push(this);
    if (!network.holes.has(this.host)) {
      setImmediate(() => {
        this.open = !this.closed;
        this.#emit("open", undefined);
      });
    }
  }

  addEventListener(type: string, listener: (ev: never) => void): void {
    this.#listeners.push({ type, listener });
  }

  send(data: Uint8Array): void {
    if (this.#network.slow) {
      this.bufferedAmount += data.length;
    }
    const frame = decode(data);
    if (frame !== undefined) {
      this.#network.said.push(frame);
      setImmediate(() => this.#network.answer(frame, this));
    }
  }

  close(code = 1005, reason = ""): void {
    if (!this.closed) {
      this.closed = true;
      this.open = false;
      setImmediate(() => this.#emit("close", { code, reason }));
    }
  }

  /** The server says something. */
  say(frame: FrameInit): void {
    this.comes(encode(frame).slice().buffer);
  }

  /** Something comes, whatever it is. */
  comes(data: unknown): void {
    if (!this.closed) {
      this.#emit("message", { data });
    }
  }

  #emit(type: string, ev: unknown): void {
    this.#listeners.filter((l) => l.type === type).forEach(({ listener }) => listener(ev as never));
  }
}
