import { createReadStream, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { casesOf, ran } from "./conformance.js";
import { replay, type Transcript } from "./transcript.js";

const folder = "client/testdata/transcripts";

for (const file of readdirSync(join("../..", folder)).filter((name) => name.endsWith(".json"))) {
  test(`transcript ${file}`, () => {
    const path = `${folder}/${file}`;
    const transcript = casesOf<Transcript>(path);
    replay(transcript);
    ran(path, transcript.name);
  });
}

// What the Go engine did in random schedules: go test -run TestWriteTranscripts ./imtest/sim writes it, as make conformance does.
test("transcripts of random schedules", async (t) => {
  const file = process.env["PIM_TRANSCRIPTS"];
  if (!file) {
    t.skip("PIM_TRANSCRIPTS names no file");
    return;
  }
  for await (const line of createInterface({ input: createReadStream(file) })) {
    replay(JSON.parse(line) as Transcript);
  }
});
