import { type Batch, type Erasure, type Former, type Rewind, type Trim } from "../engine/types.js";
import { corrupt, entryData, foldData, like, listOf, readConversation, readEntry, readFold, readMeta } from "../store/rows.js";
import { conversationRow, outgoingRow, readNetworks, readOutgoing, readSetting, settingRow } from "../store/rows.js";

// Batches as JSON: rows as every store has them, bytes in base 64.

/** Returns batches as bytes. */
export function encodeBatches(batches: readonly Batch[]): Buffer {
  return Buffer.from(JSON.stringify(batches.map(recordOf), bytesAsText));
}

/** Reads what encodeBatches wrote. It throws a PimError of kind "corrupt" if it cannot. */
export function decodeBatches(bytes: Buffer): Batch[] {
  let records: unknown;
  try {
    records = JSON.parse(bytes.toString(), textAsBytes);
  } catch (err) {
    throw corrupt("record", err);
  }
  return listOf("record", records, readRecord);
}

function bytesAsText(this: unknown, key: string, value: unknown): unknown {
  const is = (this as Record<string, unknown>)[key]; // a Buffer has become something else in value
  return is instanceof Uint8Array ? { b64: Buffer.from(is.buffer, is.byteOffset, is.length).toString("base64") } : value;
}

function textAsBytes(_: string, value: unknown): unknown {
  const text = typeof value === "object" && value !== null && "b64" in value ? value.b64 : undefined;
  return typeof text === "string" ? new Uint8Array(Buffer.from(text, "base64")) : value;
}

function recordOf(b: Batch): object {
  const lists = {
    rewinds: b.rewinds,
    conversations: b.conversations.map(conversationRow),
    entries: b.entries.map(({ entry: e, number, late }) => ({
      conversation: e.conversation,
      data: entryData(e),
      number,
      late,
    })),
    outbox: b.outbox.map(outgoingRow),
    remove: b.remove,
    settings: b.settings.map(settingRow),
    folds: b.folds.map(({ conversation, fold }) => ({ conversation, data: foldData(fold) })),
    erasures: b.erasures,
    keep: b.keep.map((e) => ({ conversation: e.conversation, data: entryData(e) })),
    forget: b.forget,
    trims: b.trims,
  };
  const some = Object.entries(lists).filter(([, list]) => list.length > 0);
  return { ...Object.fromEntries<unknown>(some), meta: b.meta, networks: b.networks };
}

const row = { conversation: "", data: new Uint8Array(0) };

function readRecord(value: unknown): Batch {
  const record = like<{ [list: string]: unknown }>("record", {}, value);
  Object.assign(record, value);
  const read = <T>(list: string, one: (row: unknown) => T): T[] => listOf(list, record[list] ?? [], one);
  const id = (one: unknown): string => {
    if (typeof one !== "string") {
      throw corrupt("ID");
    }
    return one;
  };
  const b: Batch = {
    rewinds: read("rewinds", (one) => like<Rewind>("rewind", { conversation: "", after: 0, sender: "" }, one)),
    conversations: read("conversations", readConversation),
    entries: read("entries", (one) => {
      const { conversation, data, number, late } = like("entry", { ...row, number: 0, late: false }, one);
      return { entry: readEntry(conversation, data), number, late };
    }),
    outbox: read("outbox", readOutgoing),
    remove: read("remove", id),
    settings: read("settings", readSetting),
    folds: read("folds", (one) => {
      const { conversation, data } = like("fold", row, one);
      return { conversation, fold: readFold(conversation, data) };
    }),
    erasures: read("erasures", (one) => like<Erasure>("erasure", { conversation: "", by: "", upTo: 0 }, one)),
    keep: read("keep", (one) => {
      const { conversation, data } = like("entry", row, one);
      return readEntry(conversation, data);
    }),
    forget: read("forget", (one): Former => {
      const { conversation, id } = like("former", { conversation: "", id: "" }, one);
      return id === "" ? { conversation } : { conversation, id };
    }),
    trims: read("trims", (one) => like<Trim>("trim", { conversation: "", front: 0, former: 0 }, one)),
  };
  if (record["meta"] !== undefined) {
    b.meta = readMeta(record["meta"]);
  }
  if (record["networks"] !== undefined) {
    b.networks = readNetworks(record["networks"]);
  }
  return b;
}
