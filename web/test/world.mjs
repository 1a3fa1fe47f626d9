// A server of pim, a browser, and the commands of pim beside them, for the tests of the page.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pim = join(root, "bin/pim");
const run = promisify(execFile);

/** Where screenshots are left. */
export const shots = join(root, "web/shots");

/** Tells a hang: nothing here depends on how long it is. */
export const deadline = 300_000;

/** Waits until check returns something true, and returns it. */
export async function until(check, what) {
  const end = Date.now() + deadline;
  for (;;) {
    const found = await check();
    if (found) {
      return found;
    }
    if (Date.now() > end) {
      throw new Error(`not within ${deadline / 1000} s: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Returns a loopback address that nobody else uses, where the system has several: nobody gets the port of a server while it is killed,
 * neither another server nor an outgoing connection.
 */
function ownHost() {
  const part = () => 1 + Math.floor(Math.random() * 254);
  return process.platform === "linux" ? `127.${part()}.${part()}.${part()}` : "127.0.0.1";
}

/** One server, which can be killed and started again on the same address and data. */
export class Server {
  #data = "";
  #process;
  #more;
  url = "";
  /** Where clients connect by TCP. */
  tcp = "";

  /** more are settings besides those that all have. */
  constructor(...more) {
    this.#more = more;
  }

  async start() {
    this.#data ||= await mkdtemp(join(tmpdir(), "pim-page-"));
    const address = this.url === "" ? `${ownHost()}:0` : new URL(this.url).host;
    const args = [
      "serve",
      "--json",
      "--data",
      this.#data,
      "--listen",
      address,
      "--listen-tcp",
      "127.0.0.1:0",
      "--log-level",
      "error",
      "--dev-login",
      "--shed-target", // the machine may be too busy for typing
      "0s",
      "--no-consent", // people here are strangers
      ...this.#more,
    ];
    this.#process = spawn(pim, args, { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = await once(this.#process.stdout, "data");
    const { url, tcp } = JSON.parse(line.toString());
    this.url = url;
    this.tcp = `tcp://${tcp}`;
  }

  /** Kills the server: it has no time to say or write anything. */
  async kill() {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }

  async remove() {
    await this.kill();
    await rm(this.#data, { recursive: true, force: true });
  }

  /** Runs a command of pim as the user, and returns what it prints. */
  async pim(command, user, ...args) {
    const ran = run(pim, [command, "--data", this.#data, "--server", this.url, "--as", user, ...args]);
    ran.child.stdin.end(); // chat ends with its input
    return (await ran).stdout;
  }

  /** Starts pim send as the user, with an end that says lines, notes what it has said, and waits until the server has all of it. */
  sender(user, ...args) {
    const all = ["send", "-", "--data", this.#data, "--server", this.url, "--as", user, ...args];
    const process = spawn(pim, all, { stdio: ["pipe", "ignore", "inherit"] });
    const ended = once(process, "exit");
    const said = [];
    return {
      said,
      say(line) {
        said.push(line);
        process.stdin.write(`${line}\n`);
      },
      async end() {
        process.stdin.end();
        const [status] = await ended;
        if (status !== 0) {
          throw new Error(`pim send has ended with status ${status}`);
        }
      },
    };
  }

  /** Returns a token for the user. */
  async token(user) {
    return (await run(pim, ["token", "--data", this.#data, "--user", user])).stdout.trim();
  }

  /** Returns a token for a user who picks the name, as the page gets it: no process is started for it. */
  async picked(user) {
    const answer = await fetch(`${this.url}/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Origin: this.url },
      body: JSON.stringify({ user }),
    });
    return (await answer.json()).token;
  }

  /** Returns the texts of the messages in the conversation's log, in its order. */
  async texts(user, conversation) {
    return textsIn(await this.pim("tail", user, "--conversation", conversation, "--from", "1", "--no-follow", "--json"));
  }

  /** Returns the texts of the conversation's messages in the order in which a Go client displays them. */
  async displayed(user, conversation) {
    return textsIn(await this.pim("chat", user, "--memory", "--conversation", conversation, "--history", "5000", "--json"));
  }

  /** Returns what the list of a Go client, which is the user's device, has of the conversation; undefined: nothing. */
  async listed(user, device, conversation) {
    return linesOf(await this.pim("list", user, "--device", device, "--json")).find((l) => l.conversation === conversation);
  }
}

/** Returns the objects that a command of pim has printed, one a line. */
function linesOf(out) {
  return out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function textsIn(out) {
  return linesOf(out)
    .filter((e) => e.kind === "message")
    .map((e) => e.text);
}

/** Starts Debian's Chromium, or says how to get it. */
export async function browser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) {
    throw new Error("there is no /usr/bin/chromium: apt-get install -y chromium, or name another one in CHROMIUM");
  }
  await mkdir(shots, { recursive: true });
  return chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
}

/** Opens the page as a user who picks the name, in a browser of its own. What goes wrong in the page fails the test. */
export async function person(b, server, name, options = {}) {
  const context = await b.newContext({ viewport: { width: 1440, height: 900 }, locale: "en", ...options });
  context.setDefaultTimeout(deadline);
  const page = await watched(context);
  await signIn(page, server, name);
  return page;
}

/** Opens another tab of the same browser, which nobody has signed in to. */
export function another(page) {
  return watched(page.context());
}

/** Opens a tab, and notes what goes wrong in it. */
async function watched(context) {
  const page = await context.newPage();
  page.troubles = [];
  page.on("pageerror", (err) => page.troubles.push(err.message));
  page.on("console", (m) => {
    if (m.type() === "error" && !/net::ERR_|WebSocket connection/.test(m.text())) {
      page.troubles.push(m.text());
    }
  });
  return page;
}

/** Opens the page in the tab, and picks a name. */
export async function signIn(page, server, name) {
  await page.goto(server.url);
  await page.getByRole("textbox").fill(name);
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").waitFor();
}

/** Opens a conversation in the page, and waits until it stands there: what is written at once would go to the one before. */
export async function enter(page, conversation) {
  await page.evaluate((id) => {
    const hash = `#${encodeURIComponent(id)}`;
    if (location.hash !== hash) {
      document.querySelector(".room")?.setAttribute("data-before", "");
      location.hash = hash;
    }
  }, conversation);
  await page.locator(".room:not([data-before])").getByRole("textbox").waitFor();
}

/** Goes back to the list. Nothing that comes then is read. */
export async function leave(page) {
  await page.evaluate(() => (location.hash = ""));
  await page.locator(".room").waitFor({ state: "detached" });
}

/** Writes a message, and sends it by Enter. */
export async function write(page, text) {
  await page.getByRole("textbox").fill(text);
  await page.keyboard.press("Enter");
}

/** Returns the texts of the messages that the page shows, from above to below. */
export function shown(page) {
  return page.locator(".row .said").allInnerTexts();
}

/** Waits until the page shows the text as a message. */
export function sees(page, text) {
  return page.locator(".row .said", { hasText: text }).last().waitFor();
}
