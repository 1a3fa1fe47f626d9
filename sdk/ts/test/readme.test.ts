import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { root, Server } from "./server.js";

// The programs of TypeScript in the READMEs are compiled and run as they stand there.

const hangs = { timeout: 60_000 };
const documents = ["README.md", "README.zh-CN.md", "sdk/ts/README.md"];

let server: Server;

before(async () => {
  server = await Server.start();
});

after(async () => {
  await server.end();
});

/** Returns the first program of TypeScript in a document. */
function snippetOf(document: string): string {
  const code = /^```ts\n(.*?)^```$/ms.exec(readFileSync(join(root, document), "utf8"))?.[1];
  assert.ok(code, `${document} has no program of TypeScript`);
  return code;
}

/** Starts the program of a document, and returns what waits for something in what it prints, what says a line to it, and its end. */
function start(document: string, globals: Record<string, string>, ...args: string[]) {
  const p = server.snippet(document.replaceAll("/", "-"), snippetOf(document), globals, ...args);
  const ended = once(p, "exit");
  let printed = "";
  p.stdout?.setEncoding("utf8").on("data", (text: string) => (printed += text));
  return {
    async prints(text: string): Promise<void> {
      while (!printed.includes(text)) {
        await Promise.race([
          p.stdout && once(p.stdout, "data"),
          ended.then(() => assert.fail(`it has ended, and printed ${printed}`)),
        ]);
      }
    },
    says: (line: string): unknown => p.stdin?.write(`${line}\n`),
    async end(): Promise<void> {
      p.kill();
      await ended;
    },
  };
}

test("they compile", () => {
  const folder = join(root, "sdk/ts/build/readme");
  mkdirSync(folder, { recursive: true });
  const files = documents.map((document) => {
    const name = `${document.replaceAll("/", "-")}.ts`;
    writeFileSync(join(folder, name), snippetOf(document));
    return name;
  });
  writeFileSync(join(folder, "globals.d.ts"), "declare const token: string;\n");
  const paths = { "@pim-im/client": ["../../src/index.ts"], "@pim-im/client/node": ["../../src/node/index.ts"] };
  const config = {
    extends: "../../tsconfig.test.json",
    compilerOptions: { noEmit: true, rootDir: "../..", paths },
    include: [],
    files: [...files, "globals.d.ts"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const compiler = join(root, "sdk/ts/node_modules/typescript/bin/tsc");
  try {
    execFileSync(process.execPath, [compiler, "-p", folder], { encoding: "utf8" });
  } catch (err) {
    assert.fail((err as { stdout: string }).stdout);
  }
});

for (const [i, document] of ["README.md", "README.zh-CN.md"].entries()) {
  test(`the program of ${document} sends and shows`, hangs, async () => {
    const run = start(document, { token: server.token("alice") });
    await run.prints(`stored as ${1 + i * 2}\n`); // both talk to bob
    await server.pim("bob", "send", `${document} has been read`, "--to", "alice");
    await run.prints(`${document} has been read`);
    await run.end();
  });
}

test("the program of sdk/ts/README.md is a chat", hangs, async () => {
  const run = start("sdk/ts/README.md", {}, server.token("alice"));
  run.says("hello from the README");
  await run.prints("alice: hello from the README\n");
  await server.pim("bob", "send", "and here is bob", "--to", "alice");
  await run.prints("bob: and here is bob");
  await run.end();
});
