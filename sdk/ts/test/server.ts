import { type ChildProcess, execFile, execFileSync, spawn, type StdioOptions } from "node:child_process";
import { createPrivateKey, sign } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";

/** The folder of the whole project. */
export const root = join(import.meta.dirname, "../../../..");

/** A real server, with data of its own, that tests kill and start again. */
export class Server {
  readonly #binary: string;
  readonly #data: string;
  readonly #listen: string;
  readonly #listenTCP: string;
  #process: ChildProcess | undefined;

  private constructor(binary: string, data: string, http: string, tcp: string) {
    this.#binary = binary;
    this.#data = data;
    this.#listen = http;
    this.#listenTCP = tcp;
  }

  /** Starts a server with an empty store. */
  static async start(): Promise<Server> {
    const data = mkdtempSync(join(tmpdir(), "pim-e2e-"));
    const host = ownHost();
    const listen = await freeAddress(host);
    let tcp = listen;
    while (tcp === listen) {
      tcp = await freeAddress(host);
    }
    const server = new Server(binary(), data, listen, tcp);
    await server.run();
    return server;
  }

  /** For WebSocket. */
  get url(): string {
    return `http://${this.#listen}`;
  }

  get tcp(): string {
    return `tcp://${this.#listenTCP}`;
  }

  /** Starts it, again. */
  async run(): Promise<void> {
    const args = [
      "serve",
      "--data",
      this.#data,
      "--listen",
      this.#listen,
      "--listen-tcp",
      this.#listenTCP,
      "--shed-target",
      "0s",
      "--no-consent", // people here are strangers
    ];
    const p = spawn(this.#binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = p;
    let said = "";
    await new Promise<void>((resolve, reject) => {
      for (const out of [p.stdout, p.stderr]) {
        out.setEncoding("utf8").on("data", (text: string) => {
          said = (said + text).slice(-4000);
          if (said.includes("pim serves")) {
            resolve();
          }
        });
      }
      p.once("error", reject);
      p.once("exit", (code) => reject(new Error(`pim serve has ended with status ${code}: ${said}`)));
    });
  }

  /** Kills it, as a power cut would. */
  async kill(): Promise<void> {
    const p = this.#process;
    if (p !== undefined && p.exitCode === null && p.signalCode === null) {
      const ended = new Promise((resolve) => p.once("exit", resolve));
      p.kill("SIGKILL");
      await ended;
    }
  }

  /** Kills it and removes its data. */
  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#data, { recursive: true, force: true });
  }

  /** Starts an example of Node, in a folder of its own, as if the package was installed there. */
  example(path: string, env: Record<string, string>, stderr: "inherit" | "pipe" = "inherit"): ChildProcess {
    const copy = join(this.#installed(), basename(path));
    copyFileSync(join(root, path), copy);
    const stdio: StdioOptions = ["ignore", "inherit", stderr];
    return spawn(process.execPath, [copy], { cwd: dirname(copy), env: { ...process.env, ...env }, stdio });
  }

  /**
   * Starts a program of a document, like an example: it talks to this server instead of the one that make run starts. Its standard
   * input and output are pipes. globals are what it does not define itself.
   */
  snippet(name: string, code: string, globals: Record<string, string>, ...args: string[]): ChildProcess {
    const main = join(this.#installed(), `${name}.mjs`);
    const before = join(this.#installed(), `${name}-globals.mjs`);
    writeFileSync(main, code.replaceAll("127.0.0.1:7400", this.#listen).replaceAll("127.0.0.1:7401", this.#listenTCP));
    writeFileSync(before, `Object.assign(globalThis, ${JSON.stringify(globals)});`);
    const all = ["--experimental-websocket", "--import", before, main, ...args];
    return spawn(process.execPath, all, { cwd: dirname(main), stdio: ["pipe", "pipe", "inherit"] });
  }

  /** Returns a folder in which the package is installed. */
  #installed(): string {
    const folder = join(this.#data, "example");
    const installed = join(folder, "node_modules/@pim-im/client");
    if (!existsSync(installed)) {
      mkdirSync(installed, { recursive: true });
      copyFileSync(join(root, "sdk/ts/package.json"), join(installed, "package.json"));
      symlinkSync(join(root, "sdk/ts/build/src"), join(installed, "dist"));
    }
    return folder;
  }

  /** Returns a token that lets user in for an hour. */
  token(user: string): string {
    const { keys } = JSON.parse(readFileSync(join(this.#data, "keys.json"), "utf8")) as {
      keys: { id: string; private: string }[];
    };
    const [key] = keys;
    if (key === undefined) {
      throw new Error("the server has no key");
    }
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const said = `${part({ alg: "EdDSA", kid: key.id })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
    const pem = createPrivateKey({ key: Buffer.from(key.private, "base64"), format: "der", type: "pkcs8" });
    return `${said}.${sign(null, Buffer.from(said), pem).toString("base64url")}`;
  }

  /** Runs a command of the Go client as user, and returns what it prints. */
  pim(user: string, ...args: string[]): Promise<string> {
    const all = [...args, "--as", user, "--data", this.#data, "--server", this.url];
    return new Promise((resolve, reject) => {
      execFile(this.#binary, all, { timeout: 300_000 }, (err, stdout, stderr) => {
        if (err) {
          reject(new Error(`pim ${args.join(" ")}: ${stderr}`));
        } else {
          resolve(stdout);
        }
      });
    });
  }

  /** Follows the direct conversation of user with other by the Go client, and returns the texts of its first n messages. */
  tail(user: string, other: string, n: number): Promise<string[]> {
    const args = ["tail", "--to", other, "--json", "--as", user, "--data", this.#data, "--server", this.url];
    const p = spawn(this.#binary, args, { stdio: ["ignore", "pipe", "inherit"] });
    const texts: string[] = [];
    return new Promise((resolve, reject) => {
      p.once("error", reject);
      p.once("exit", () => reject(new Error(`pim tail has ended after ${texts.join()}`)));
      createInterface(p.stdout).on("line", (line) => {
        const { text } = JSON.parse(line) as { text?: string };
        if (text !== undefined && texts.push(text) === n) {
          resolve(texts);
          p.kill();
        }
      });
    });
  }
}

let built: string | undefined;

/** Returns the path of pim: PIM_BINARY, or what go build makes. */
function binary(): string {
  if (process.env["PIM_BINARY"]) {
    return process.env["PIM_BINARY"];
  }
  if (built === undefined) {
    const path = join(root, "bin/pim");
    try {
      execFileSync("go", ["build", "-o", path, "./cmd/pim"], { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
    } catch (err) {
      const missing = (err as NodeJS.ErrnoException).code === "ENOENT";
      throw new Error(missing ? "these tests need Go, to build the server; or name a binary of it in PIM_BINARY" : String(err));
    }
    built = path;
  }
  return built;
}

/**
 * Returns a loopback address that nobody else uses, where the system has several. So nobody gets the ports of a server while it is
 * killed, neither another server nor an outgoing connection.
 */
function ownHost(): string {
  const part = (): number => 1 + Math.floor(Math.random() * 254);
  return process.platform === "linux" ? `127.${part()}.${part()}.${part()}` : "127.0.0.1";
}

/** Returns an address at host, with a port, at which nobody listens now. */
function freeAddress(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const s = createServer();
    s.once("error", reject);
    s.listen(0, host, () => {
      const { port } = s.address() as AddressInfo;
      s.close(() => resolve(`${host}:${port}`));
    });
  });
}
