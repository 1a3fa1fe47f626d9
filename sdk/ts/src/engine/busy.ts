import { maxWindow, timeOf } from "./backoff.js";
import { type Duration, randomUpTo } from "./duration.js";
import { type Engine } from "./engine.js";

// A server that is overloaded turns clients away and says when to come back. It is left alone until
// then, at all its addresses and whatever the app does, because every further attempt costs what it
// has too little of. Servers that have not said so are asked meanwhile.

/**
 * Bounds the refusals that are kept, besides one for each of Config.servers: an attacker could have an
 * endless number of gateways named, each of which turns the client away.
 */
export const maxBusy = 32;

/** One refusal. */
export interface TurnedAway {
  server: string;
  until: Duration;
  why: Error;
}

/** Where a URL leads. */
interface Address {
  host: string;
  port: string;
  web: boolean; // a WebSocket, else TCP
}

/** Returns the address in a URL. */
function addressOf(server: string): Address {
  const [, scheme = "", host = "", port] =
    /^(.*?):\/\/(?:[^/?#]*@)?([^/?#]*?)(?::([^:\]/?#]*))?(?:[/?#]|$)/.exec(server.toLowerCase()) ?? [];
  const web = !/^(tcp|tls)$/.test(scheme);
  return { host, port: port || (web ? (/^(https|wss)$/.test(scheme) ? "443" : "80") : ""), web };
}

/**
 * Reports whether two URLs are taken for addresses of one server. It listens at one port for WebSockets
 * and at one for TCP. So two ports of a host that differ are one server's if they are of different
 * transports, and belong to two nodes on that host if they are of the same.
 */
export function sameServer(one: string, other: string): boolean {
  const a = addressOf(one);
  const b = addressOf(other);
  return a.host === b.host && (a.port === b.port || a.web !== b.web);
}

/**
 * Takes note that server wants to be left alone: for the time that why names and a random time more,
 * which is up to a quarter of it, or up to the end of window if that comes later. So those who are told
 * the same do not all come back in the same moment. It reports false if no time is named.
 */
export function turnedAway(e: Engine, server: string, why: Error, window: Duration): boolean {
  const least = timeOf(why);
  const most = Math.max(least + Math.trunc(least / 4), Math.min(window, maxWindow));
  if (most === 0) {
    return false;
  }
  e.route.leave(e.fx.now.mono, { server, until: e.fx.now.mono + least + randomUpTo(most - least, e.cfg.random), why });
  return true;
}
