import { type Duration, millisecond } from "../engine/index.js";
import { checkDeviceID, checkUserID, type DeviceID, type Millis, PimError, type UserID } from "../pim/index.js";
import { checkFunction, checkList, checkObject, checkString, checkText } from "../pim/arguments.js";
import { byteLength } from "../pim/text.js";
import { type Store } from "../store/store.js";
import { type TabsEnvironment } from "../tabs/environment.js";
import { type Clock, systemClock } from "./clock.js";
import { type SocketConstructor } from "./connection.js";
import { type Dialer, dialerOf } from "./server.js";

/** Says what open connects to, and as which user and device. device and token are required, and server or servers. */
export interface Options {
  /**
   * Where to connect: http(s)://host:port or ws(s)://host:port for WebSocket. In Node, the open of "@pim-im/client/node" takes
   * tcp://host:port for TCP and tls://host:port for TCP with TLS 1.3, too.
   */
  server?: string;
  /**
   * Further gateways of the same server. The client tries the last good one first. If one does not answer within 2.5 s, it tries
   * another beside it.
   */
  servers?: string[];
  /**
   * A token for the user, or what returns one within 10 s. It is called before every attempt to connect, and not again while a call
   * that began less than 10 s ago has not ended. It should return a token that is still good: when the server refuses a token, the
   * client asks for another, after waits that grow
   * to 10·backoffMax. If it throws, or returns nothing in time, the client tells the app by a StateEvent and asks again, as after
   * any other failure to connect. Of a PimError the client heeds retryAfter, and takes kind "unauthorized" for a refusal. signal
   * is aborted when nobody waits for the token any more.
   */
  token: string | ((o: { signal: AbortSignal }) => Promise<string> | string);
  /** If set, it must be the user that the token names; otherwise the client stops. */
  user?: UserID;
  /** Names this device among those of the user. Two clients with one name push each other out. */
  device: DeviceID;
  /**
   * Holds what must outlive the process. It belongs to one user and one device, is used by one Client at a time, and stays open
   * after close. If it is missing, it is a database of the browser, named by user and device, which is closed with the client;
   * where there is none, or user is not set, everything is kept in memory and forgotten at close.
   */
  store?: Store;
  /**
   * Has all tabs of a browser that open this device share its database and one connection, that of the tab a person looks at; the
   * others do everything through it, with its token. When it is closed or dies another tab takes over; then a ListEvent names all
   * conversations, since what happened in between may have been told to nobody. If it is missing, they do, where the browser can (it needs Web Locks: pages that were loaded by HTTPS or from localhost) and store, confirm, watch and
   * peek are not set; user must be set. With false a second tab is refused with "conflict".
   */
  tabs?: boolean;
  /**
   * Is called while a tab with an older version of the app keeps the database from being opened, with an error for the person. open
   * goes on when that tab is closed or loaded again.
   */
  onBlocked?: (err: PimError) => void;
  /**
   * Lets the token and everything else cross a network unencrypted: by http, ws or tcp to hosts other than localhost and loopback
   * addresses. Without it, open refuses such servers.
   */
  insecure?: boolean;
  /**
   * Hands over every entry, process after process, until the app has confirmed it (Client.confirm). So an app that is killed at
   * any moment misses none. The first of these entries is the first one that is stored after the first open with confirm. They
   * come by Client.events alone, in the order in which they were stored, own messages included, and may come after other events
   * that happened later. lazyGap has no effect. store must be set, to one that outlives the process.
   */
  confirm?: boolean;
  /**
   * Leaves out the sync of all conversations: the client follows only those named by Client.watch, and acknowledges nothing. For
   * tools, with a store of their own.
   */
  watch?: boolean;
  /**
   * Reads the list of conversations and the user's own log, pulls no other entries by itself, and acknowledges nothing: the device
   * changes nothing that the user or others see. Client.synced waits for the list and the own log only. For tools that show the
   * list or give one command, with a store of their own; not with watch or confirm.
   */
  peek?: boolean;
  /** Name and version of the app, for the server's log; at most 128 bytes. */
  agent?: string;
  /**
   * Bound the wait between attempts to connect, in milliseconds: the n-th wait is a random time up to
   * min(backoffMin·2ⁿ, backoffMax). They are 500 and 30,000 if not set.
   */
  backoffMin?: Millis;
  backoffMax?: Millis;
  /** How long an answer may take before the request is sent again, in milliseconds; 10,000 if not set. */
  requestTimeout?: Millis;
  /**
   * How many missed entries of a conversation the client pulls by itself; 10,000 if not set. If more were missed, it pulls the
   * newest page, and the rest when View.older asks.
   */
  lazyGap?: number;
  /** Makes WebSockets, where the global WebSocket is missing (Node 20) or another one is wanted. */
  webSocket?: SocketConstructor;
}

/** How a stream of bytes is opened, which only Node can: for tcp:// and tls://. It throws a PimError if server is not valid. */
export type StreamDialer = (server: URL) => Dialer;

/** What an environment adds to Options. */
export interface Environment {
  stream?: StreamDialer;
  tabs?: TabsEnvironment;
  clock?: Clock;
  random?: () => number;
}

/** Options that were checked, with all defaults set. */
export interface Checked {
  options: Options;
  user: UserID;
  servers: string[];
  dialers: Map<string, Dialer>; // of servers
  /** Returns a dialer for a server that another one has named. */
  dialer: (server: string) => Dialer;
  backoffMin: Duration;
  backoffMax: Duration;
  requestTimeout: Duration;
  clock: Clock;
  random: () => number;
}

const maxAgent = 128; // bytes, as in the protocol

/** Returns o with its defaults. It throws a PimError of kind "invalid" if something is wrong with o. */
export function checkOptions(o: Options, env: Environment): Checked {
  checkObject("Options", o);
  if (typeof o.token !== "string" && typeof o.token !== "function") {
    throw new PimError("invalid", "Options.token is neither a string nor a function");
  }
  checkDeviceID(o.device);
  const user = o.user ?? "";
  if (user !== "") {
    checkUserID(user);
  }
  if (o.store !== undefined) {
    checkFunction("Options.store.apply", checkObject("Options.store", o.store).apply);
  }
  if (o.webSocket !== undefined) {
    checkFunction("Options.webSocket", o.webSocket);
  }
  if (o.confirm && (!o.store || o.watch)) {
    throw new PimError("invalid", "Options.confirm needs a store, as of @pim-im/client/node, and no watch");
  }
  if (o.peek && (o.watch || o.confirm)) {
    throw new PimError("invalid", "Options.peek goes with neither watch nor confirm");
  }
  if (o.tabs && (o.store || o.confirm || o.watch || o.peek || user === "")) {
    throw new PimError("invalid", "Options.tabs needs user, and goes with none of store, confirm, watch and peek");
  }
  const agent = byteLength(checkText("Options.agent", o.agent ?? ""));
  if (agent > maxAgent) {
    throw new PimError("invalid", `Options.agent has ${agent} bytes, at most ${maxAgent} are allowed`);
  }
  const { backoffMin = 0, backoffMax = 0, requestTimeout = 0, lazyGap = 0 } = o;
  if (![backoffMin, backoffMax, requestTimeout, lazyGap].every((n) => n >= 0 && n < Infinity)) {
    throw new PimError("invalid", "Options: a negative duration or size");
  }
  const least = backoffMin || 500;
  const named = checkList("Options.servers", o.servers ?? [], (server) => void checkString("server", server));
  const servers = [...(o.server ? [o.server] : []), ...named];
  const dialer = (server: string): Dialer => dialerOf(server, o, env.stream);
  const checked: Checked = {
    options: o,
    user,
    servers,
    dialers: new Map(servers.map((server) => [server, dialer(server)])),
    dialer,
    backoffMin: nanos(least),
    backoffMax: nanos(Math.max(least, backoffMax || 30_000)),
    requestTimeout: nanos(requestTimeout || 10_000),
    clock: env.clock ?? systemClock,
    random: env.random ?? Math.random,
  };
  if (servers.length === 0) {
    throw new PimError("invalid", "Options.server and servers are empty");
  }
  return checked;
}

/** Returns ms milliseconds. */
function nanos(ms: Millis): Duration {
  return Math.trunc(ms * millisecond);
}
