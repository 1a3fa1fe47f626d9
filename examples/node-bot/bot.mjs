// Answers every direct message with its text, once, though it be killed at any moment.
import { readFileSync } from "node:fs";
import { directUsers, EntryKind } from "@pim-im/client";
import { open, openFile } from "@pim-im/client/node";

const { PIM_SERVER: server = "tcp://127.0.0.1:7401", PIM_USER: user = "echobot", PIM_STORE = "node-bot.pim" } = process.env;
const { PIM_TOKEN = "", PIM_TOKEN_FILE } = process.env;
const token = () => (PIM_TOKEN_FILE ? readFileSync(PIM_TOKEN_FILE, "utf8").trim() : PIM_TOKEN);

try {
  const store = await openFile(PIM_STORE);
  // With confirm every entry is handed over, process after process, until it is confirmed.
  const bot = await open({ server, user, device: "bot", token, store, confirm: true });
  for await (const event of bot.events()) {
    if (event.type === "entry") {
      const { conversation, kind, sender, erased, payload } = event.entry;
      const echoes = kind === EntryKind.message && sender !== user && directUsers(conversation) && !erased;
      await bot.confirm(event, ...(echoes ? [{ payload }] : [])); // in one transaction: both, or neither
    } else if (event.type === "state" && event.state === "stopped") {
      throw event.err; // another process has taken its place, or the server does not let it in for good
    } else if (event.type === "state" && event.err) {
      console.error(`${event.state}: ${event.err.message}`); // it tries again
    }
  }
} catch (err) {
  console.error(`the bot has ended: ${err.message}`);
  process.exit(1); // what is stored may be left as it is, at any moment
}
