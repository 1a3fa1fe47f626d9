#!/usr/bin/env node
// A plugin of buf: writes the fields of all messages of a .proto file as one table, NAME_fields.ts. The code of protoc-gen-es has
// a descriptor instead, whose reader takes 20 KiB of a bundle that may have 35.
import { ScalarType } from "@bufbuild/protobuf";
import { createEcmaScriptPlugin, runNodeJs } from "@bufbuild/protoplugin";

// Messages that the SDK leaves out: it skips their frames, as those of a later version.
const leftOut = ["PIMDevicesReq", "PIMDevicesResp", "Device"];

runNodeJs(
  createEcmaScriptPlugin({
    name: "protoc-gen-fields",
    version: "v1",
    generateTs(schema) {
      for (const file of schema.files) {
        const messages = file.messages.filter((m) => !leftOut.includes(m.name));
        const f = schema.generateFile(`${file.name}_fields.ts`);
        f.preamble(file);
        f.print(`import type * as pb from "./${file.name}_pb.js";`);
        f.print();
        f.print("/** The types of the messages, by their names. */");
        f.print("export interface Messages {");
        messages.forEach((m) => f.print(`  ${m.name}: pb.${m.name};`));
        f.print("}");
        f.print();
        f.print("/**");
        f.print(
          " * The fields of the messages, by their numbers from 1 on: name and type, which is that of a scalar, enum, or the name",
        );
        f.print(' * of a message. "[]" behind it stands for a list. Empty: no field has this number.');
        f.print(" */");
        f.print("export const fields = {");
        for (const m of messages) {
          f.print(`  ${m.name}: [`);
          for (let number = 1; number <= Math.max(...m.fields.map((d) => d.number)); number++) {
            const d = m.fields.find((field) => field.number === number);
            f.print(`    "${d ? `${d.localName} ${typeOf(d)}` : ""}",`);
          }
          f.print("  ],");
        }
        f.print("} as const;");
      }
    },
  }),
);

/** Returns the type of a field. */
function typeOf(field) {
  const list = field.fieldKind === "list";
  switch (list ? field.listKind : field.fieldKind) {
    case "message":
      return field.message.name + (list ? "[]" : "");
    case "enum":
      return list ? "enum[]" : "enum";
    case "scalar":
      return ScalarType[field.scalar].toLowerCase() + (list ? "[]" : "");
    default:
      throw new Error(`${field}: no field has this type so far`);
  }
}
