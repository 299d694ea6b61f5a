/**
 * ezkl's settings of a circuit, one segment or a chain of several; as `circuits/settings.py` and `circuits/chain.py`.
 */

import { type Digest, equal, sha256, toBigInt, toHex, utf8 } from "./bytes";
import { RexisError } from "./errors";
import { canonical, isList, type Json, type JsonObject, parseJson, same } from "./json";
import { SCALAR_FIELD } from "./bn254";
import { isObject } from "./schema";
import type { Circuit } from "./statement";

const EZKL_VERSION = "23.0.5";
const CHAIN_FORMAT = "rexis-chain-v1";
const MAX_SETTINGS_BYTES = 1 << 20;
const MAX_CHAIN_BYTES = 8 << 20;
const MAX_SEGMENTS = 64;
const KEYS_MAGIC = utf8("rexis.vk-chain.v1\0");
/** Salt values behind a record whose inputs are hashed, and how large one can be. */
const SALT_VALUES = 10;
const SALT_LIMIT = 1n << 16n;
// What hostile settings may ask for; honest circuits have tens of columns.
const MAX_COLUMNS = 2 ** 10;
const MAX_TABLES = 64;
const MAX_TABLE_COLUMNS = 128;
const MAX_ITEMS = 1 << 14;
const MAX_INTEGER = 2 ** 40;
const MAX_VALUES = 1 << 20;
const MAX_BLINDING_FACTORS = 64;
const COLUMN_SIZES = [
  "num_rows",
  "num_dynamic_lookups",
  "num_shuffles",
  "total_const_size",
  "total_dynamic_col_size",
  "total_shuffle_col_size",
];
const UNORDERED = ["required_range_checks", "required_lookups"];
// ezkl's Poseidon takes so many rows for each value that it hashes, and so many more at the end.
const HASH_ROWS = 41;
const HASH_LAST_ROWS = 2;
const VISIBILITIES = { public: "Public", hashed: { Hashed: { hash_is_public: true, outlets: [] } } } as const;
/** Bounds of run arguments; outside of them no honest circuit is. */
const RUN_ARGUMENTS: Record<string, readonly [number, number]> = {
  input_scale: [0, 16],
  param_scale: [0, 16],
  decomp_base: [2, 2 ** 20],
  decomp_legs: [1, 16],
  num_inner_cols: [1, 32],
  logrows: [6, 26],
  scale_rebase_multiplier: [1, 8],
};
const LOOKUP_BOUND = 2 ** 24;

/** What is relied on of one segment's settings. */
export interface Segment {
  visibility: "public" | "hashed";
  logrows: number;
  inputScale: number;
  outputScale: number;
  inputLength: number;
  outputLength: number;
  /** Instances of a proof that stand for the record. */
  publicInputs: number;
  /** The input scale that the run arguments name. */
  profileScale: number;
  /** The run arguments in which the segments of one circuit agree: all that are looked at, but for the input scale. */
  profile: string;
}

export interface Settings {
  digest: Digest;
  segments: readonly [Segment, ...Segment[]];
}

function fail(message: string, field = "settings", hint?: string): never {
  throw new RexisError(message, { field, hint });
}

/** Read settings, and refuse every circuit that would not show what a statement claims. */
export function parseSettings(written: string): Settings {
  const size = utf8(written).length;
  if (size > MAX_CHAIN_BYTES) fail(`settings of ${size} bytes are over the limit`);
  const document = parse(written);
  if (!isObject(document) || document["format"] !== CHAIN_FORMAT)
    return { digest: digestOf(written), segments: [parseSegment(written)] };
  const { cuts, segments: parts } = document;
  if (!isList(cuts) || !isList(parts) || !cuts.every((cut) => typeof cut === "number") || parts.length < 2) {
    fail("settings of segments are not canonical");
  }
  const [first, ...others] = parts.map((part) => parseSegment(canonical(part)));
  if (!first || canonical(document) !== written || Object.keys(document).length !== 3) {
    fail("settings of segments are not canonical");
  }
  requireChain(cuts as number[], [first, ...others]);
  return { digest: digestOf(written), segments: [first, ...others] };
}

/** What a statement pins of these settings, with the other digests. */
export function describe(settings: Settings, digests: { vk: Digest; vka: Digest; srs: Digest }): Circuit {
  const first = settings.segments[0];
  const last = settings.segments[settings.segments.length - 1] ?? first;
  return {
    vkDigest: digests.vk,
    vkaDigest: digests.vka,
    srsDigest: digests.srs,
    settingsDigest: settings.digest,
    visibility: first.visibility,
    inputScale: first.inputScale,
    outputScale: last.outputScale,
    inputLength: first.inputLength,
    outputLength: last.outputLength,
  };
}

/** The verifying keys of so many segments, from their blob. */
export function splitKeys(blob: Uint8Array, count: number): Uint8Array[] {
  if (count === 1) return [blob];
  if (!equal(blob.subarray(0, KEYS_MAGIC.length), KEYS_MAGIC)) {
    fail("these are not the verifying keys of several segments", "vk");
  }
  const keys: Uint8Array[] = [];
  let at = KEYS_MAGIC.length;
  for (let i = 0; i < count; i++) {
    const length = Number(toBigInt(blob.subarray(at, at + 4)));
    keys.push(blob.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  if (keys.some((key) => key.length === 0) || at !== blob.length) {
    fail(`the verifying keys are not those of ${count} segments`, "vk");
  }
  return keys;
}

/** The VKAs of so many segments, from their words. */
export function splitVkas(words: readonly Digest[], count: number): Digest[][] {
  if (count === 1) return [[...words]];
  const vkas: Digest[][] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const length = at < words.length ? Number(BigInt(words[at] ?? "0x0")) : 0;
    vkas.push(words.slice(at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (vkas.some((vka) => vka.length === 0) || at !== words.length) {
    fail(`the VKA's words are not those of ${count} segments`, "vka");
  }
  return vkas;
}

function digestOf(written: string): Digest {
  return toHex(sha256(utf8(written)));
}

function parse(written: string): Json {
  try {
    return parseJson(written, { floats: true });
  } catch (error) {
    fail(`not canonical settings: ${error instanceof RexisError ? error.message : "not JSON"}`);
  }
}

function parseSegment(written: string): Segment {
  if (written.length > MAX_SETTINGS_BYTES) fail(`settings of ${written.length} bytes are over the limit`);
  const document = parse(written);
  if (!isObject(document)) fail("not ezkl settings");
  requireCanonical(document, written);
  const args = objectAt(document, "run_args");
  const required: [string, Json | undefined, Json][] = [
    ["version", document["version"], EZKL_VERSION],
    ["output_visibility", args["output_visibility"], "Public"],
    ["param_visibility", args["param_visibility"], "Fixed"],
    ["ignore_range_check_inputs_outputs", args["ignore_range_check_inputs_outputs"], false],
  ];
  for (const [name, found, expected] of required) {
    if (found !== expected) fail(`${name} must be ${pythonText(expected)}`, `settings.${name}`);
  }
  requireSmall(document);
  const { visibility, profile, logrows, profileScale } = readProfile(args);
  const hashed = visibility === "hashed";
  requireBuildable(document, args, logrows, hashed);
  const shapes = listAt(document, "model_instance_shapes");
  const inScales = listAt(document, "model_input_scales");
  const outScales = listAt(document, "model_output_scales");
  // Of hashed inputs there is no instance, so that their shape is not there either.
  if (shapes.length !== (hashed ? 1 : 2) || inScales.length !== 1 || outScales.length !== 1) {
    fail("a circuit has one input and one output", "settings.model_instance_shapes");
  }
  const lengths = shapes.map((shape) => {
    if (!isList(shape)) fail("a shape is a list");
    return shape.reduce<number>((product, dimension) => product * bounded(dimension, "dimension", 1, MAX_VALUES), 1);
  });
  const witnessLength = hashed ? hashedLength(document) : lengths[0];
  const inputLength = bounded((witnessLength ?? 0) - (hashed ? SALT_VALUES : 0), "input length", 1, MAX_VALUES);
  return {
    visibility,
    logrows,
    inputScale: bounded(inScales[0], "input scale", 0, 32),
    outputScale: bounded(outScales[0], "output scale", 0, 32),
    inputLength,
    outputLength: bounded(lengths[lengths.length - 1], "output length", 1, MAX_VALUES),
    publicInputs: hashed ? 1 : inputLength,
    profileScale,
    profile,
  };
}

/** Sorted keys and sets, no white space, timestamp 0. */
function requireCanonical(document: JsonObject, written: string): void {
  const fixed: Record<string, Json> = { ...document, timestamp: 0 };
  for (const name of UNORDERED) {
    fixed[name] = [...listAt(document, name)].sort((a, b) => (canonical(a) < canonical(b) ? -1 : 1));
  }
  if (canonical(fixed) !== written) fail("settings are not canonical");
}

function readProfile(args: JsonObject): {
  visibility: Segment["visibility"];
  profile: string;
  logrows: number;
  profileScale: number;
} {
  const range = listAt(args, "lookup_range");
  if (range.length !== 2) fail("a lookup range has two ends", "settings.run_args");
  const visibility = (["public", "hashed"] as const).find((name) =>
    same(args["input_visibility"] ?? null, VISIBILITIES[name]),
  );
  if (!visibility) fail("inputs must be Public, or Hashed with a public hash", "settings.input_visibility");
  const numbers = Object.entries(RUN_ARGUMENTS).map(
    ([name, [low, high]]) => [name, bounded(args[name], name, low, high, "settings.run_args")] as const,
  );
  const lookups = range.map((end) => bounded(end, "lookup range", -LOOKUP_BOUND, LOOKUP_BOUND, "settings.run_args"));
  const freivalds = args["disable_freivalds"];
  if (typeof freivalds !== "boolean") fail("disable_freivalds is true or false", "settings.run_args");
  const found = Object.fromEntries(numbers);
  const digits = BigInt(found["decomp_base"] ?? 0) ** BigInt(found["decomp_legs"] ?? 0);
  if (visibility === "hashed" && digits < SALT_LIMIT)
    fail("salt values do not fit the range check", "settings.run_args");
  if (2n * digits >= SCALAR_FIELD) fail("decomp_base ** decomp_legs does not fit the field", "settings.run_args");
  const common = numbers.filter(([name]) => name !== "input_scale");
  return {
    visibility,
    profile: JSON.stringify([common, lookups, freivalds, visibility]),
    logrows: found["logrows"] ?? 0,
    profileScale: found["input_scale"] ?? 0,
  };
}

/** Every number and every list in bounds, whatever it is for. */
function requireSmall(value: Json): void {
  if (isList(value) || isObject(value)) {
    const items = Object.values(value) as Json[];
    if (items.length > MAX_ITEMS) fail(`a list of ${items.length} items is over the limit`);
    items.forEach(requireSmall);
  } else if (typeof value === "number" && Math.abs(value) > MAX_INTEGER) {
    fail(`a number is beyond ${MAX_INTEGER}`);
  }
}

/** No size that no honest circuit has. */
function requireBuildable(document: JsonObject, args: JsonObject, logrows: number, hashed: boolean): void {
  for (const name of COLUMN_SIZES)
    bounded(document[name], name, name === "num_rows" ? 1 : 0, MAX_COLUMNS * 2 ** logrows);
  if (objectAt(document, "einsum_params")["total_einsum_col_size"] !== 0) {
    fail(
      "products of activations are checked by Freivalds' method, which the contract's verifier does not know",
      "settings.einsum_params",
      "a profile with disableFreivalds lays them out one by one",
    );
  }
  const modules = document["module_sizes"] ?? null;
  const rows = listAt(objectAt(document, "module_sizes"), "poseidon")[0] ?? null;
  if (!same(modules, { polycommit: [], poseidon: hashed ? [rows, [1]] : [0, [0]] })) {
    fail("modules are there for one hash of hashed inputs only", "settings.module_sizes");
  }
  const blinding = document["num_blinding_factors"];
  if (blinding !== null) {
    if (hashed) fail("a circuit with hashed inputs has ezkl's own blinding", "settings.num_blinding_factors");
    bounded(blinding, "num_blinding_factors", 1, MAX_BLINDING_FACTORS);
  }
  const checks = listAt(document, "required_range_checks");
  const lookups = listAt(document, "required_lookups");
  if (checks.length > MAX_TABLES || lookups.length > MAX_TABLES) {
    fail(`more than ${MAX_TABLES} tables`, "settings.required_range_checks");
  }
  let tableRows = 0;
  for (const range of [...checks, ...lookups.map(() => args["lookup_range"] ?? null)]) {
    if (!isList(range) || range.length !== 2) fail("a range has two ends");
    const low = bounded(range[0], "lower end of a range", -MAX_INTEGER, MAX_INTEGER);
    tableRows += bounded(range[1], "upper end of a range", low, MAX_INTEGER) - low + 1;
  }
  bounded(tableRows, "rows of all tables", 0, MAX_TABLE_COLUMNS * 2 ** logrows);
}

/** How many values the hash is over: ezkl says it only by the rows that this takes. */
function hashedLength(document: JsonObject): number {
  const rows = bounded(
    listAt(objectAt(document, "module_sizes"), "poseidon")[0],
    "rows of the hash",
    1,
    bounded(document["num_rows"], "num_rows", 1, MAX_INTEGER),
  );
  const length = (rows - HASH_LAST_ROWS) / HASH_ROWS;
  return Number.isInteger(length) ? length : fail(`${rows} rows are no hash`, "settings.module_sizes");
}

function requireChain(cuts: readonly number[], segments: readonly [Segment, ...Segment[]]): void {
  if (segments.length > MAX_SEGMENTS || cuts.length !== segments.length - 1) {
    fail(
      `${segments.length} segments and ${cuts.length} cuts; a circuit has 1 to ${MAX_SEGMENTS} segments`,
      "settings.segments",
    );
  }
  if (cuts.some((cut, i) => cut <= (i ? (cuts[i - 1] ?? 0) : 0))) fail("cuts ascend from 1", "settings.cuts");
  const first = segments[0];
  if (first.visibility === "hashed") {
    fail("hashed inputs need one segment: boundaries are public", "settings.segments");
  }
  segments.forEach((after, place) => {
    const before = segments[place - 1];
    if (!before) return;
    const where = `settings.segments.${place}`;
    if (after.profile !== first.profile) fail("segments differ in more than the scale of their inputs", where);
    if (before.outputScale !== after.inputScale || after.inputScale !== after.profileScale) {
      fail(`reads inputs of scale ${after.inputScale}, the segment before writes ${before.outputScale}`, where);
    }
    if (before.outputLength !== after.inputLength) {
      fail(`takes ${after.inputLength} values, the segment before gives ${before.outputLength}`, where);
    }
  });
}

function bounded(value: Json | undefined, name: string, low: number, high: number, field = "settings"): number {
  if (typeof value !== "number" || value < low || value > high) {
    fail(`${name} must be an integer from ${low} to ${high}`, field);
  }
  return value;
}

function objectAt(document: JsonObject, name: string): JsonObject {
  const found = document[name];
  return isObject(found) ? found : fail(`${name} is not an object`);
}

function listAt(document: JsonObject, name: string): readonly Json[] {
  const found = document[name];
  return isList(found) ? found : fail(`${name} is not a list`);
}

function pythonText(value: Json): string {
  return value === false ? "False" : String(value);
}
