import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { type Client, type View } from "../src/index.js";
import { open } from "../src/node/index.js";
import { Server } from "./server.js";

// Against the real server, with the Go client on the other side.

let server: Server;
const clients: Client[] = [];

before(async () => {
  server = await Server.start();
});

after(async () => {
  await Promise.all(clients.map((c) => c.close()));
  await server.end();
});

/** Opens a device of user. */
async function device(user: string, name: string, url = server.tcp): Promise<Client> {
  const c = await open({ server: url, token: () => server.token(user), user, device: name, backoffMin: 50, backoffMax: 200 });
  clients.push(c);
  return c;
}

/** Waits until a View shows these lines. */
async function shows(view: View, want: string[]): Promise<void> {
  let got: string[] = [];
  try {
    for await (const items of view.changes({ signal: AbortSignal.timeout(30_000) })) {
      got = items.map((m) => m.text() + (m.pending() ? ` ${m.state}` : ""));
      if (got.length === want.length && got.every((line, i) => line === want[i])) {
        return;
      }
    }
  } catch {
    // it has waited long enough
  }
  assert.deepEqual(got, want);
}

test("two devices and the Go client talk", { timeout: 60_000 }, async () => {
  const alice = await device("alice", "phone");
  const bob = await device("bob", "laptop", server.url);
  const theirs = await bob.direct("alice").messages(10);
  const sent = await (await alice.direct("bob").sendText("hi")).wait();
  assert.equal(sent.seq, 1);
  await shows(theirs, ["hi"]);
  await server.pim("bob", "send", "hello", "--to", "alice");
  await shows(await alice.direct("bob").messages(10), ["hi", "hello"]);
  await shows(theirs, ["hi", "hello"]);
});
