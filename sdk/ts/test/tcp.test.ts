import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { type Conn } from "../src/client/connection.js";
import { streamDialer } from "../src/node/tcp.js";
import { frameTCP } from "../src/wire/index.js";

// Frames over a stream of bytes, cut in all places.

let server: Server;

before(async () => {
  server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});

after(() => server.close());

/** Connects, and returns both ends, and what the client's end reports. */
async function connect(): Promise<{ conn: Conn; far: Socket; frames: number[][]; closed: Promise<string> }> {
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const conn = await streamDialer({})(new URL(`tcp://127.0.0.1:${port}`))(AbortSignal.timeout(300_000));
  const [far] = await accepted;
  const frames: number[][] = [];
  const closed = new Promise<string>((resolve) => {
    conn.start({
      frame: (bytes) => frames.push([...bytes.subarray(0, 3), bytes.length]),
      bytes: () => undefined,
      closed: (err) => resolve(err.message),
    });
  });
  return { conn, far, frames, closed };
}

test("frames are the same however they are cut, and what the end cuts short is dropped", async () => {
  for (const step of [1, 2, 3, 5, 100, 1 << 20]) {
    const { far, frames, closed } = await connect();
    const large = new Uint8Array(step < 100 ? 50 : 200_000).fill(7);
    const all = [Uint8Array.of(1), Uint8Array.of(2, 3), large, Uint8Array.of(4, 5, 6)].map(frameTCP);
    const bytes = Buffer.concat([...all, Uint8Array.of(0, 0, 0, 9, 1)]);
    for (let at = 0; at < bytes.length; at += step) {
      far.write(bytes.subarray(at, at + step));
      if (step < 100) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    far.end();
    assert.match(await closed, /in the middle of a frame/);
    assert.deepEqual(
      frames,
      [
        [1, 1],
        [2, 3, 2],
        [7, 7, 7, large.length],
        [4, 5, 6, 3],
      ],
      `in steps of ${step}`,
    );
  }
});

test("a frame that is too large ends the connection, and so does one without a type", async () => {
  for (const [header, want] of [
    [Uint8Array.of(0, 4, 0, 1), /at most 262144/],
    [Uint8Array.of(0, 0, 0, 0), /has no type/],
  ] as const) {
    const { far, closed } = await connect();
    far.on("error", () => undefined);
    far.write(header);
    assert.match(await closed, want);
  }
});

test("while reading is stopped the other side waits, and what is written waits for the network", async () => {
  const { conn, far, frames, closed } = await connect();
  conn.pause(true);
  const frame = frameTCP(new Uint8Array(250_000).fill(1));
  let taken = 0;
  const writes = Array.from(
    { length: 200 },
    () => new Promise<void>((resolve) => far.write(frame, () => resolve(void taken++))),
  );
  await writes[0];
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(taken < 200 && frames.length <= 2, `${taken} taken, ${frames.length} read`);
  conn.pause(false);
  await Promise.all(writes);
  while (frames.length < 200) {
    await new Promise((resolve) => setImmediate(resolve));
  }

  far.pause();
  conn.write(Array.from({ length: 200 }, () => new Uint8Array(250_000)));
  assert.ok(conn.unsent > 0);
  far.on("data", () => undefined).resume();
  conn.finish();
  assert.match(await closed, /was closed/);
  assert.equal(conn.unsent, 0);
  conn.close();
});

test("a server that is not there, and a dial that is given up, reject", async () => {
  const dial = streamDialer({})(new URL("tcp://127.0.0.1:1")); // nobody listens there, unlike at a port that was free a moment ago
  await assert.rejects(dial(new AbortController().signal), { kind: "unavailable" });
  const reason = new Error("given up");
  await assert.rejects(dial(AbortSignal.abort(reason)), reason);
});

test("a server that answers with HTTP is told from one that is broken", async () => {
  const { conn, far, closed } = await connect();
  far.write("HTTP/1.1 400 Bad Request\r\n\r\n");
  assert.match(await closed, /answers with HTTP: its port for raw TCP .* \(invalid\)$/);
  conn.close();
});

test("what looks like HTTP behind the first frame is a frame that is too long", async () => {
  const { far, frames, closed } = await connect();
  far.write(Buffer.concat([frameTCP(Uint8Array.of(1)), Buffer.from("HTTP/1.1")]));
  assert.doesNotMatch(await closed, /answers with HTTP/);
  assert.deepEqual(frames, [[1, 1]]);
});
