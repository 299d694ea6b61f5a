/** Records as Merkle leaves: encodings, salts, openings. As `rexis/protocol/records.py`. */

import { SCALAR_FIELD } from "./bn254";
import { bigEndian, concat, type Digest, equal, fromHex, type Hex, sha256, toBigInt, utf8 } from "./bytes";
import { RexisError } from "./errors";
import { checkInclusion, MAX_PATH } from "./merkle";
import { digest, hex, list, object, type Read, uint64 } from "./schema";
import type { Circuit, Tier } from "./statement";

const RECORD_DOMAIN = utf8("rexis.record.v1\0");
const OUTPUT_SALT_DOMAIN = utf8("rexis.output-salt.v1\0");
const HASH_SALT_DOMAIN = utf8("rexis.hash-salt.v1\0");
const MAX_VALUES = 1 << 20;
const SIDES = { input: 0, output: 1 } as const;
const ENCODINGS = { float32: 0, fixed: 1, hash: 2 } as const;
const WIDTHS = { float32: 4, fixed: 8, hash: 32 } as const;

/** Encoding and scale of one side's leaves. */
export interface LeafFormat {
  side: keyof typeof SIDES;
  encoding: keyof typeof ENCODINGS;
  scale: number;
}

/** One record of a task, opened: values and salt with their paths to the input and output roots. */
export const readOpening = object({
  index: uint64,
  salt: digest,
  input: hex,
  inputPath: list(digest, { most: MAX_PATH }),
  output: hex,
  outputPath: list(digest, { most: MAX_PATH }),
});
export type Opening = Read<typeof readOpening>;

/** How many values a payload holds; refuses NaN, infinity, partial values, and a hash beyond the field. */
export function valueCount(format: LeafFormat, payload: Uint8Array): number {
  const width = WIDTHS[format.encoding];
  if (payload.length % width || payload.length === 0 || payload.length > width * MAX_VALUES) {
    throw new RexisError(`a payload of ${payload.length} bytes does not hold ${width}-byte values`);
  }
  if (format.encoding === "hash" && (payload.length !== width || toBigInt(payload) >= SCALAR_FIELD)) {
    throw new RexisError("a payload is not one hash, a number below the field's order");
  }
  if (format.encoding === "float32" && !isFinite(payload)) throw new RexisError("record holds NaN or infinity");
  return payload.length / width;
}

/** The field elements that stand for a payload of integers, or of one hash: a proof's public instances. */
export function instancesOf(payload: Uint8Array, hashed: boolean): bigint[] {
  if (hashed) return [toBigInt(payload)];
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return Array.from({ length: payload.length / WIDTHS.fixed }, (_, index) => {
    const value = view.getBigInt64(index * WIDTHS.fixed);
    return value < 0n ? value + SCALAR_FIELD : value;
  });
}

/** Leaf data of one record. */
export function leafData(format: LeafFormat, salt: Uint8Array, payload: Uint8Array): Uint8Array {
  return concat(
    RECORD_DOMAIN,
    Uint8Array.of(SIDES[format.side], ENCODINGS[format.encoding], format.scale),
    salt,
    bigEndian(payload.length / WIDTHS[format.encoding], 4),
    payload,
  );
}

export function inputFormat(circuit: Circuit): LeafFormat {
  if (circuit.visibility === "none") return { side: "input", encoding: "float32", scale: 0 };
  return { side: "input", encoding: circuit.visibility === "hashed" ? "hash" : "fixed", scale: circuit.inputScale };
}

export function outputFormat(circuit: Circuit): LeafFormat {
  if (circuit.visibility === "none") return { side: "output", encoding: "float32", scale: 0 };
  return { side: "output", encoding: "fixed", scale: circuit.outputScale };
}

/** The salt of an output leaf, from that of its input leaf. */
export function outputSalt(salt: Uint8Array): Uint8Array {
  return sha256(OUTPUT_SALT_DOMAIN, salt);
}

export interface OpeningRules {
  tier: Tier;
  circuit: Circuit;
  inputRoot: Digest;
  inputSize: number;
  outputRoot: Digest;
  start: number;
  count: number;
}

/** Check that an opening leads to both roots, and holds as many values as the circuit takes and gives. */
export function checkOpening(opening: Opening, rules: OpeningRules): void {
  const { circuit, start, count } = rules;
  if (opening.index < start || opening.index >= start + count) {
    throw new RexisError(`record ${opening.index} lies outside the task's ${start} … ${start + count - 1}`);
  }
  const [inputs, outputs] = [inputFormat(circuit), outputFormat(circuit)];
  const [input, output, salt] = [fromHex(opening.input), fromHex(opening.output), fromHex(opening.salt)];
  const [inputCount, outputCount] = [valueCount(inputs, input), valueCount(outputs, output)];
  if (rules.tier !== "commit") {
    const hashed = circuit.visibility === "hashed";
    requireLength(inputCount, hashed ? 1 : circuit.inputLength, `input of record ${opening.index}`);
    if (hashed && !equal(salt, sha256(HASH_SALT_DOMAIN, input))) {
      throw new RexisError(`the salt of record ${opening.index} is not the one that its hash gives`);
    }
    requireLength(outputCount, circuit.outputLength, `output of record ${opening.index}`);
  }
  checkInclusion(
    rules.inputRoot,
    rules.inputSize,
    opening.index,
    leafData(inputs, salt, input),
    opening.inputPath,
    `input of record ${opening.index}`,
  );
  checkInclusion(
    rules.outputRoot,
    count,
    opening.index - start,
    leafData(outputs, outputSalt(salt), output),
    opening.outputPath,
    `output of record ${opening.index}`,
  );
}

/** Values on a boundary between two segments: the payload of a fixed-point leaf. */
export function boundaryCount(payload: Hex): number {
  return valueCount({ side: "output", encoding: "fixed", scale: 0 }, fromHex(payload));
}

function isFinite(payload: Uint8Array): boolean {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  for (let at = 0; at < payload.length; at += WIDTHS.float32) {
    if (!Number.isFinite(view.getFloat32(at, true))) return false;
  }
  return true;
}

function requireLength(found: number, expected: number, what: string): void {
  if (found !== expected) throw new RexisError(`${what} has ${found} values, the circuit has ${expected}`);
}
