import { PimError } from "../pim/index.js";
import { type Code, codeName } from "../wire/index.js";

/** A connection that carries frames: a WebSocket, or in Node a stream of bytes. */
export interface Conn {
  /** Has what comes reported. Until then nothing is read. */
  start(on: Reader): void;
  /** Queues frames, which are transmitted in order. */
  write(frames: readonly Uint8Array[]): void;
  /** How many bytes of what was written the network has not taken yet. */
  readonly unsent: number;
  /** A part of a frame has come, and its end has not. A WebSocket does not tell. */
  readonly partial: boolean;
  /** Stops reading, or goes on. A WebSocket cannot stop. */
  pause(on: boolean): void;
  /** Transmits what is queued, and then closes; Reader.closed tells when that is done. */
  finish(): void;
  /** Lets go of the connection at once. Nothing more is reported. */
  close(): void;
}

/** Gets what a connection reports. */
export interface Reader {
  /** A frame has come. */
  frame(bytes: Uint8Array): void;
  /** Bytes of a frame have come. */
  bytes(): void;
  /** The connection has ended. code is the server's close code, 0 if it gave none. It is the last report. */
  closed(err: Error, code: Code): void;
}

/** What is used of a WebSocket: that of the browser, of Node 22, or of a package such as ws. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  addEventListener(type: "open" | "error", listener: () => void): void;
  addEventListener(type: "message", listener: (ev: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (ev: { code: number; reason: string }) => void): void;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** Makes a WebSocket that connects to url. */
export type SocketConstructor = new (url: string) => Socket;

/**
 * Connects to url. It rejects with a PimError of kind "unavailable" if that fails: nobody tells a page why. When signal is aborted
 * it rejects with the signal's reason.
 */
export function dialWebSocket(url: string, construct: SocketConstructor, signal: AbortSignal): Promise<Conn> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = new construct(url);
    const conn = new WebSocketConn(socket);
    const abort = (): void => {
      conn.close();
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", abort);
    const settled = (): void => signal.removeEventListener("abort", abort);
    socket.addEventListener("open", () => {
      settled();
      resolve(conn);
    });
    const failed = (): void => {
      settled();
      reject(new PimError("unavailable", `${url} does not answer, or not as a WebSocket (tcp:// has a port of its own)`));
    };
    socket.addEventListener("close", failed);
    socket.addEventListener("error", failed); // Node 20 says no more if it could not connect
  });
}

/** Carries each frame as one binary message of a WebSocket. */
class WebSocketConn implements Conn {
  readonly partial = false;
  readonly #socket: Socket;
  #on: Reader | undefined;
  #early: ((on: Reader) => void)[] = []; // what has come before start
  #gone = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) {
        this.#report((on) => on.frame(new Uint8Array(data)));
      } else {
        this.#end(new PimError("invalid", "a frame that is not a binary message"), 0);
        socket.close();
      }
    });
    socket.addEventListener("close", ({ code, reason }) => {
      if (code >= 4000) {
        // docs/protocol.md, section 13; the engine says what kind of error it is
        this.#end(new Error(`closed by the server: ${codeName(code)} ${reason}`.trimEnd()), code);
      } else {
        this.#end(new PimError("unavailable", `the connection has ended: ${code} ${reason}`.trimEnd()), 0);
      }
    });
  }

  get unsent(): number {
    return this.#socket.bufferedAmount;
  }

  start(on: Reader): void {
    this.#on = on;
    const early = this.#early;
    this.#early = [];
    early.forEach((report) => report(on));
  }

  write(frames: readonly Uint8Array<ArrayBuffer>[]): void {
    frames.forEach((f) => this.#socket.send(f));
  }

  pause(): void {
    // There is no way to: the frames queue up, and Link has a bound for them.
  }

  finish(): void {
    this.#socket.close();
  }

  close(): void {
    this.#gone = true;
    this.#socket.close();
  }

  #end(err: Error, code: Code): void {
    this.#report((on) => on.closed(err, code));
    this.#gone = true;
  }

  #report(report: (on: Reader) => void): void {
    if (this.#gone) {
      return;
    }
    if (this.#on === undefined) {
      this.#early.push(report);
    } else {
      report(this.#on);
    }
  }
}
