// What only Node has: open for tcp:// and tls:// servers, and a store in a file.
import { type ConnectionOptions } from "node:tls";
import { type Client, openIn } from "../client/client.js";
import { type Options } from "../client/options.js";
import { checkObject } from "../pim/arguments.js";
import { streamDialer } from "./tcp.js";

export { type FileOptions, openFile } from "./file.js";

/** Options of a client in Node. */
export interface NodeOptions extends Options {
  /**
   * The configuration for tls:// servers, as tls.connect of Node takes it. TLS 1.3 is the minimum, whatever it says. Without it the
   * authorities that Node knows are trusted.
   */
  tls?: ConnectionOptions;
}

/** Does what open of "@pim-im/client" does, and connects to tcp:// and tls:// servers, too. */
export async function open(o: NodeOptions): Promise<Client> {
  return openIn({ stream: streamDialer(checkObject("Options", o).tls ?? {}) }, o);
}
