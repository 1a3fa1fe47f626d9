// Answers every direct message with its text, once, though it be killed at any moment.
import { readFileSync } from "node:fs";
import { directUsers, EntryKind } from "@pim-im/client";
import { open, openFile } from "@pim-im/client/node";

const {
  PIM_SERVER = "tcp://127.0.0.1:7401",
  PIM_USER = "echobot",
  PIM_TOKEN = "",
  PIM_TOKEN_FILE,
  PIM_STORE = "node-bot.pim",
} = process.env;

const store = await openFile(PIM_STORE);
const bot = await open({
  server: PIM_SERVER,
  user: PIM_USER,
  device: "bot",
  token: () => (PIM_TOKEN_FILE ? readFileSync(PIM_TOKEN_FILE, "utf8").trim() : PIM_TOKEN),
  store,
  confirm: true, // every entry is handed over, process after process, until it is confirmed
});
for await (const event of bot.events()) {
  if (event.type === "state" && event.err) {
    console.error(`${event.state}: ${event.err.message}`);
    if (event.state === "stopped") {
      break; // another process has taken its place, or the server does not let it in for good
    }
  }
  if (event.type === "entry") {
    const { conversation, kind, sender, erased, payload } = event.entry;
    const echoes = kind === EntryKind.message && sender !== PIM_USER && directUsers(conversation) && !erased;
    await bot.confirm(event, ...(echoes ? [{ payload }] : [])); // in one transaction: both, or neither
  }
}
process.exitCode = 1;
await bot.close();
await store.close();
