/** What the desk does around verification, without a browser. What needs one is in `e2e`. */

import { readFileSync } from "node:fs";
import { describe, expect, inject, test } from "vitest";
import { sections } from "../build/claims.mts";
import { drawingOf } from "../src/desk/drawing";
import { factsOf } from "../src/desk/facts";
import { Refused, recognise } from "../src/desk/files";
import { type Told, treesOf } from "../src/desk/lineage";
import { filtered, rowsOf } from "../src/desk/log-rows";
import { addressOf } from "../src/desk/places";
import { Field } from "../src/desk/reading";
import { groupsOf } from "../src/desk/step-groups";
import { bytes, seconds } from "../src/desk/units";
import { type Step, verifyCertificate } from "../src/verify";

const VECTORS = new URL("../../../tests/vectors/", import.meta.url);
const THREATS = readFileSync(new URL("../../../docs/threat-model.md", import.meta.url), "utf8");
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(new URL(path, VECTORS)));
const text = (document: string): Uint8Array => new TextEncoder().encode(document);

async function told(path: string): Promise<Told> {
  const { document, result } = await verifyCertificate(read(path), {});
  return { name: path, facts: factsOf(document!), result };
}

describe("the threat model's words", () => {
  test("every tier has its claim, its believers and what is not claimed", () => {
    const found = sections(THREATS);
    for (const name of ["commit", "sampled", "zk", "training-commit", "training-sampled"]) {
      const said = JSON.stringify(found[name]);
      for (const part of ["Claim.", "Not claimed", "Shown false by"]) expect(said, name).toContain(part);
    }
  });

  test("a list within a list stays one", () => {
    const [block] = sections(THREATS)["training-sampled"]!.blocks;
    expect(block?.kind === "list" && block.items.some(({ items }) => items.length > 3)).toBe(true);
  });

  test("a section that is gone fails the build", () => {
    expect(() => sections(THREATS.replace("### Tier `zk`", "### Tier zk"))).toThrow("no section");
  });
});

describe("files", () => {
  test("a certificate is one whatever it is called, and whatever is in it", () => {
    expect(recognise("x.txt", read("certificates/zk/certificate.json")).kind).toBe("certificate");
    expect(recognise("x", text("")).kind).toBe("certificate");
    expect(recognise("x", text('{"a":1}')).kind).toBe("certificate");
  });

  test("a name that says another digest, and a report that is none, are refused", () => {
    expect(() => recognise(`sha256-${"0".repeat(64)}`, text("x"))).toThrow(Refused);
    expect(() => recognise("card.json", text('{"format": "rexis-leakage-card-v2"'))).toThrow("no JSON");
    expect(() => recognise("card.json", text('{"format": "rexis-leakage-card-v2"}'))).toThrow("card.json.modelDigest is not text");
  });

  test("a manifest of validators names their quorum, or is refused; a certificate stays one", () => {
    const manifest = inject("quorums")["validators"]!;
    expect(recognise("x.txt", text(manifest))).toMatchObject({ kind: "quorum", quorum: { chainId: 31337 } });
    expect(() => recognise("x.txt", text(manifest.replace("6666", "6667")))).toThrow("x.txt is no manifest of validators: validatorQuorum: 0x");
    expect(recognise("x", text('{"format":"rexis-certificate-v1","validatorQuorum":1}')).kind).toBe("certificate");
    expect(recognise("x", text(manifest.padEnd((1 << 16) + 1))).kind).toBe("certificate");
  });

  test("fields are the document's own", () => {
    expect(() => new Field({}, "x").get("constructor").text()).toThrow(Refused);
    expect(() => new Field(JSON.parse('{"__proto__": {"a": "b"}}'), "x").get("a").text()).toThrow(Refused);
    expect(() => new Field({ a: Number.POSITIVE_INFINITY }, "x").get("a").number()).toThrow(Refused);
  });
});

test("steps of many tasks are put together, in the order in which they came", () => {
  const step = (number: number, name: string): Step => ({ number, name, status: "ok", detail: "" });
  const steps = [step(1, "form"), step(7, "statement, records 0–1"), step(8, "selection, records 0–1"), step(7, "statement, records 2–3"), step(8, "selection, records 2–3")];
  expect(groupsOf(steps).map((group) => group.map(({ name }) => name))).toEqual([
    ["form"],
    ["statement, records 0–1", "statement, records 2–3"],
    ["selection, records 0–1", "selection, records 2–3"],
  ]);
});

test("a lineage is drawn from left to right, with nothing on top of anything", async () => {
  const certificates = await Promise.all(["", "-2", "-3", "-4"].map((number) => told(`training/trained-twice/certificate${number}.json`)));
  const trees = treesOf(certificates);
  expect(trees).toHaveLength(1);
  const { boxes, edges, columns } = drawingOf(trees, (digest) => digest);
  expect(columns).toBe(3);
  expect(boxes).toHaveLength(certificates.length + 1);
  expect(edges).toHaveLength(certificates.length);
  for (const { from, to } of edges) expect(to.column).toBe(from.column + 1);
  expect(new Set(boxes.map(({ column, row }) => `${column} ${row}`)).size).toBe(boxes.length);
});

test("a model that is trained from itself is no lineage", async () => {
  const [one] = [await told("training/sampled/certificate.json")];
  const circular = { ...one!, facts: { ...one!.facts, training: { ...one!.facts.training!, made: one!.facts.model } } };
  expect(() => treesOf([circular])).toThrow("trained from");
});

test("the log joins what certificates and the chain say of one thing, and finds it by its first digits", async () => {
  const { facts } = await told("certificates/sampled/certificate.json");
  const { anchor } = facts.places[0]!;
  const event = { name: "Anchored", block: anchor.blockNumber, position: 0, transaction: anchor.transaction, values: { anchorId: "22", size: "2", submitter: "0x1" } };
  const other = { ...event, transaction: "0x2", block: 1 };
  const rows = rowsOf([facts], [event, other]);
  expect(rows.map(({ what, source }) => `${what}: ${source}`)).toEqual(["batch anchored: both", "statement committed: certificate", "batch anchored: chain"]);
  const none = { job: "", model: "", worker: "", dataset: "" };
  expect(filtered(rows, { ...none, worker: facts.places[0]!.worker.slice(0, 8).toUpperCase().replace("X", "x") })).toHaveLength(2);
  expect(filtered(rows, { ...none, job: "0x00" })).toHaveLength(0);
});

test("addresses of the page", () => {
  expect(addressOf("#/log")).toEqual({ place: "log", certificate: null });
  expect(addressOf("#/verify?certificate=examples/zk/certificate.json").certificate).toBe("examples/zk/certificate.json");
  expect(addressOf("#/constructor").place).toBe("verify");
  expect(addressOf("").place).toBe("verify");
});

test("quantities for people", () => {
  expect([2.4e-5, 0.0123, 0.25, 3.456, 1234].map(seconds)).toEqual(["24 µs", "12 ms", "250 ms", "3.5 s", "1230 s"]);
  expect([0, 999, 1530, 25_800_000_000].map(bytes)).toEqual(["0 B", "999 B", "1.5 kB", "26 GB"]);
});
