import { checkString } from "../pim/arguments.js";
import { PimError } from "../pim/index.js";
import { webSocketPath } from "../wire/index.js";
import { type Conn, dialWebSocket, type SocketConstructor } from "./connection.js";
import { type Options, type StreamDialer } from "./options.js";

/** Connects to one server. When signal is aborted it rejects with the signal's reason. */
export type Dialer = (signal: AbortSignal) => Promise<Conn>;

/**
 * Returns a dialer for server: http(s)://, ws(s)://, tcp:// or tls://, and host:port; the first two may have a path, which comes
 * before webSocketPath. It throws a PimError if server is not valid, or if the token would cross a network unencrypted and o does
 * not allow that.
 */
export function dialerOf(server: string, o: Pick<Options, "insecure" | "webSocket">, stream: StreamDialer | undefined): Dialer {
  const url = urlOf(server);
  const dialer = schemeDialer(server, url, o.webSocket, stream);
  if (!o.insecure && exposed(url)) {
    const how = "use https://, wss:// or tls://, or set insecure";
    throw new PimError("invalid", `the token would cross the network unencrypted to ${server}: ${how}`);
  }
  return dialer;
}

function urlOf(server: string): URL {
  const said = JSON.stringify(checkString("server", server));
  let url: URL;
  try {
    url = new URL(server);
  } catch (cause) {
    throw new PimError("invalid", `server ${said} is not a URL`, { cause });
  }
  if (url.hostname === "") {
    throw new PimError("invalid", `server ${said} has no host; it looks like http://host:port or tcp://host:port`);
  }
  return url;
}

function schemeDialer(
  server: string,
  url: URL,
  webSocket: SocketConstructor | undefined,
  stream: StreamDialer | undefined,
): Dialer {
  switch (url.protocol) {
    case "http:":
    case "ws:":
    case "https:":
    case "wss:": {
      const construct = webSocket ?? (globalThis.WebSocket as SocketConstructor | undefined);
      if (construct === undefined) {
        const how = `use tcp:// or tls:// and open of "@pim-im/client/node", a newer Node, or set webSocket`;
        throw new PimError("unsupported", `server ${JSON.stringify(server)} needs a WebSocket, and there is none: ${how}`);
      }
      const at = new URL(url);
      at.protocol = at.protocol.replace("http", "ws");
      at.pathname = at.pathname.replace(/\/*$/, webSocketPath);
      return (signal) => dialWebSocket(at.href, construct, signal);
    }
    case "tcp:":
    case "tls:":
      if (url.port === "") {
        throw new PimError("invalid", `server ${JSON.stringify(server)} has no port`);
      }
      if (stream === undefined) {
        const how = `${url.protocol}// needs Node, and open of "@pim-im/client/node"`;
        throw new PimError("unsupported", `server ${JSON.stringify(server)}: ${how}`);
      }
      return stream(url);
    default: {
      const schemes = "http, https, ws, wss, tcp, tls";
      throw new PimError(
        "invalid",
        `server ${JSON.stringify(server)}: scheme "${url.protocol.slice(0, -1)}" is none of ${schemes}`,
      );
    }
  }
}

/**
 * Reports whether others may read what is sent to url: it leaves this machine without encryption. A host name other than localhost
 * is not looked up, and counts as another machine.
 */
export function exposed(url: URL): boolean {
  if (!["http:", "ws:", "tcp:"].includes(url.protocol)) {
    return false;
  }
  const host = url.hostname.toLowerCase();
  return (
    host !== "localhost" &&
    !/^(127(\.\d{1,3}){3}|\[::1\]|\[::ffff:(7f[0-9a-f]{2}:[0-9a-f]{1,4}|127(\.\d{1,3}){3})\])$/.test(host)
  );
}
