import { connect as connectTCP, type Socket } from "node:net";
import { connect as connectTLS, type ConnectionOptions } from "node:tls";
import { type Conn, type Reader } from "../client/connection.js";
import { type StreamDialer } from "../client/options.js";
import { maxFrame, PimError } from "../pim/index.js";
import { cutTCP, frameTCP, tcpHeader } from "../wire/index.js";

/** Returns what connects to tcp:// and tls:// servers. tls is the configuration for the latter; TLS 1.3 is the minimum, whatever it says. */
export function streamDialer(tls: ConnectionOptions): StreamDialer {
  return (server) => {
    const host = server.hostname.replace(/^\[|\]$/g, "");
    const port = Number(server.port);
    return (signal) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted();
        const secure = server.protocol === "tls:";
        const socket = secure
          ? connectTLS({ servername: nameOf(host), ...tls, host, port, minVersion: "TLSv1.3" })
          : connectTCP({ host, port });
        socket.setNoDelay(true);
        const abort = (): void => {
          socket.destroy();
          reject(signal.reason as Error);
        };
        signal.addEventListener("abort", abort);
        const failed = (cause: Error): void => {
          signal.removeEventListener("abort", abort);
          reject(new PimError("unavailable", `${server.href}: ${cause.message}`, { cause }));
        };
        socket.once("error", failed);
        socket.once(secure ? "secureConnect" : "connect", () => {
          signal.removeEventListener("abort", abort);
          const conn = new StreamConn(server.href, socket); // which hears of errors from now on
          socket.off("error", failed);
          resolve(conn);
        });
      });
  };
}

/** Returns the name that a certificate is to have; none for an address, which is looked up among the certificate's addresses. */
function nameOf(host: string): string {
  return /^[\d.]+$|:/.test(host) ? "" : host;
}

/** "HTTP", as it would come in place of the length of the first frame. */
const http = [0x48, 0x54, 0x54, 0x50];

/** Carries frames over a stream of bytes. Each frame follows its length. */
class StreamConn implements Conn {
  readonly #server: string;
  readonly #socket: Socket;
  #on: Reader | undefined;
  #in: Uint8Array[] = []; // what has come of a frame that is not complete
  #held = 0; // bytes in #in
  #need = tcpHeader; // how many bytes there must be for the next try
  #begun = false; // the first bytes were looked at
  #err: Error | undefined;

  constructor(server: string, socket: Socket) {
    this.#server = server;
    this.#socket = socket;
    socket.on("error", (err) => (this.#err ??= new PimError("unavailable", err.message, { cause: err })));
    socket.pause();
  }

  get unsent(): number {
    return this.#socket.writableLength;
  }

  get partial(): boolean {
    return this.#held > 0;
  }

  start(on: Reader): void {
    this.#on = on;
    this.#socket.on("data", (chunk) => this.#read(chunk));
    this.#socket.on("close", () => {
      const cut = this.partial ? ", in the middle of a frame" : "";
      this.#closed(this.#err ?? new PimError("unavailable", `the server has closed the connection${cut}`));
    });
    if (this.#socket.destroyed) {
      queueMicrotask(() => this.#closed(this.#err ?? new PimError("unavailable", "the connection has ended")));
    }
    this.#socket.resume();
  }

  write(frames: readonly Uint8Array[]): void {
    this.#socket.cork();
    frames.forEach((f) => this.#socket.write(frameTCP(f)));
    this.#socket.uncork();
  }

  pause(on: boolean): void {
    if (on) {
      this.#socket.pause();
    } else {
      this.#socket.resume();
    }
  }

  finish(): void {
    this.#socket.end(() => this.#closed(new PimError("unavailable", "the connection was closed")));
  }

  close(): void {
    this.#on = undefined;
    this.#socket.destroy();
  }

  #closed(err: Error): void {
    this.#on?.closed(err, 0);
    this.#on = undefined;
  }

  #read(chunk: Uint8Array): void {
    this.#in.push(chunk);
    this.#held += chunk.length;
    this.#on?.bytes();
    if (this.#held < this.#need) {
      return;
    }
    let rest = this.#in.length === 1 ? chunk : Buffer.concat(this.#in);
    try {
      if (!this.#begun && http.every((byte, i) => rest[i] === byte)) {
        // No frame begins like this: it would be a thousand times as long as frames may be.
        const ports = "its port for raw TCP (--listen-tcp) is another one, and for this one there are http:// and https://";
        throw new PimError("invalid", `${this.#server} answers with HTTP: ${ports}`);
      }
      this.#begun = true;
      for (;;) {
        const cut = cutTCP(rest, maxFrame);
        rest = cut.rest;
        if (cut.frame === undefined) {
          this.#need = cut.need;
          break;
        }
        this.#on?.frame(cut.frame);
      }
    } catch (err) {
      this.#err ??= err as Error;
      this.#socket.destroy();
    }
    this.#in = rest.length > 0 ? [rest] : [];
    this.#held = rest.length;
  }
}
