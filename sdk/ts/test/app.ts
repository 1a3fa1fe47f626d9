// An app of the random schedules of imtest/real, as imtest/real/app.go is one: its standard input has a spec and then
// commands, its standard output has reports, a JSON object each, as Go reads them. It ends with its input.
import { createInterface } from "node:readline";
import { open, openFile } from "../src/node/index.js";
import {
  type Client,
  type ClientMessageID,
  type Entry,
  type Event,
  newClientMessageID,
  noClientMessageID,
  type Store,
} from "../src/index.js";
import { clientMessageIDBytes, clientMessageIDOf } from "../src/pim/id.js";
import { utf8 } from "../src/pim/text.js";

interface Spec {
  Server: string;
  Token: string;
  User: string;
  Device: string;
  File: string;
  Confirm: boolean;
  Look: boolean; // report what the store has, and end
}

interface Command {
  Number: number;
  Conversation: string;
  Text: string;
  Create: string[] | null;
  Resend: number[];
  Network: boolean;
}

/** The numbers that Go has for the states that are reported. */
const states: Record<string, number> = { sent: 4, failed: 5 };

function tell(report: object): void {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

/** Returns id as Go's JSON has it. */
function goID(id: ClientMessageID): number[] {
  return [...clientMessageIDBytes(id)];
}

/** Returns e as Go's JSON has it. Go takes names in any case. */
function goEntry(e: Entry): object {
  const [payload, unknown] = [e.payload, e.unknown].map((bytes) => Buffer.from(bytes).toString("base64"));
  return { ...e, clientID: goID(e.clientID), payload, unknown };
}

async function begin(store: Store): Promise<void> {
  const { outbox } = await store.load();
  const entries: object[] = [];
  for (const { id } of await store.conversations()) {
    entries.push(...(await store.entries(id, undefined, Number.MAX_SAFE_INTEGER)).map(goEntry));
  }
  const pending = outbox
    .sort((a, b) => a.number - b.number)
    .map((m) => ({ ID: goID(m.id), Payload: new TextDecoder().decode(m.payload), Failed: m.failed !== undefined }));
  tell({ Begun: { Entries: entries, Pending: pending } });
}

/** Breaks store on purpose, for tests that notice it. */
function broken(store: Store, how: string): Store {
  const { apply, load } = store;
  switch (how) {
    case "forgetful": // it has no outbox
      store.apply = (batch) => apply.call(store, { ...batch, outbox: [] });
      break;
    case "renaming": // the messages of its outbox have new IDs when it is loaded
      store.load = async () => {
        const snapshot = await load.call(store);
        return { ...snapshot, outbox: snapshot.outbox.map((m) => ({ ...m, id: newClientMessageID() })) };
      };
  }
  return store;
}

/** Does what the user says, and returns the ID of what that queues. */
async function perform(me: Client, c: Command): Promise<ClientMessageID> {
  if (c.Create !== null) {
    return (await me.createGroup(c.Create)).id;
  }
  if (c.Resend.some((b) => b !== 0)) {
    return (await me.resend(clientMessageIDOf(Uint8Array.from(c.Resend)))).id;
  }
  if (c.Network) {
    await me.networkChanged();
    return noClientMessageID;
  }
  return (await me.conversation(c.Conversation).send(utf8(c.Text))).id;
}

async function obey(me: Client, commands: AsyncIterable<string>): Promise<void> {
  for await (const line of commands) {
    const c = JSON.parse(line) as Command;
    try {
      tell({ Answer: { Number: c.Number, ID: goID(await perform(me, c)) } });
    } catch (err) {
      tell({ Answer: { Number: c.Number, Err: String(err) } });
    }
  }
}

function tellEvent(ev: Event): void {
  switch (ev.type) {
    case "entry":
      tell({ Entry: { Entry: goEntry(ev.entry), Late: ev.late, Number: ev.number } });
      break;
    case "send":
      if (ev.state in states) {
        const { id, conversation, state, sent } = ev;
        tell({ Sent: { ID: goID(id), Conversation: conversation, State: states[state], Sent: sent ?? {} } });
      }
      break;
    case "state":
      if (ev.state === "stopped") {
        tell({ Broken: `the SDK stopped: ${String(ev.err)}` });
      }
  }
}

const input = createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();
const first = await lines.next();
const spec = JSON.parse(String(first.value)) as Spec;
const store = broken(await openFile(spec.File), process.env["PIM_BROKEN"] ?? "");
await begin(store);
if (!spec.Look) {
  const me = await open({
    server: spec.Server,
    user: spec.User,
    device: spec.Device,
    token: spec.Token,
    store,
    confirm: spec.Confirm,
    // Waits that suit a network in one machine.
    backoffMin: 10,
    backoffMax: 200,
    requestTimeout: 700,
  });
  const ending = obey(me, { [Symbol.asyncIterator]: () => lines }).then(() => me.close());
  for await (const ev of me.events()) {
    tellEvent(ev);
    if (ev.type === "entry" && spec.Confirm) {
      await me.confirm(ev).catch((err: unknown) => tell({ Broken: String(err) }));
    }
  }
  await ending;
}
await store.close();
input.close();
