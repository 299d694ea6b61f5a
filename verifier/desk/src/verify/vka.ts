/**
 * What of a VKA can be compared with the vk, the settings and the SRS without ezkl.
 *
 * A VKA's words are: constants of the circuit and of BN254; G2 and −s·G2 of the SRS; where things lie; the vk's
 * commitments to fixed columns and to the permutation; and the programme by which the contract evaluates constraints.
 * The constants and the commitments are compared. The programme, and the digest of the constraint system in the first
 * word, follow from the constraint system, which only ezkl can make of settings: they are not.
 */

import { type Digest, littleEndian } from "./bytes";
import { RexisError } from "./errors";
import { SCALAR_FIELD } from "./bn254";
import type { Segment } from "./settings";
import { asWord, coordinates } from "./srs";

const VK_VERSION = 3;
const VK_HEADER = 7; // version, logrows, whether selectors are compressed, number of fixed columns (u32)
const POINT = 64;
const COORDINATES = 2;
/** An element of BN254's scalar field of order 2^28, from which halo2 takes its domains. */
const ROOT_OF_UNITY = 0x03ddb9f5166d18b798865ea93dd31f743215cf6dd39329c8d34f1ed960c37c9cn;
const TWO_ADICITY = 28;
/** The generator of G2 (EIP-197), imaginary parts first. */
const G2 = [
  0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2n,
  0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6edn,
  0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975bn,
  0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daan,
];
const G2_AT = 16;
const G2_WORDS = 8;

/** Compare a segment's VKA with its vk and settings; returns how many of the vk's commitments stand in it. */
export function compareVka(segment: Segment, vk: Uint8Array, vka: readonly Digest[]): number {
  for (const [at, what, expected] of constants(segment)) {
    if (vka[at] !== asWord(expected)) fail(`the VKA's word ${at} is not ${what} of this circuit`);
  }
  const points = commitments(vk, segment.logrows);
  const at = vka.findIndex((_, start) => points.fixed.every((word, i) => vka[start + i] === word));
  if (at < 0) fail("the VKA does not hold the vk's commitments to its fixed columns");
  const after = vka.slice(at + points.fixed.length);
  const different = points.permutation.findIndex((word, i) => after[i] !== word);
  const shared = Math.floor((different < 0 ? points.permutation.length : different) / COORDINATES);
  if (shared === 0) fail("the VKA does not hold the vk's commitments to its permutation");
  return points.fixed.length / COORDINATES + shared;
}

/** Compare a VKA with the G2 points of an SRS. */
export function comparePoints(vka: readonly Digest[], points: readonly Digest[]): void {
  if (vka.slice(G2_AT, G2_AT + G2_WORDS).some((word, i) => word !== points[i])) {
    fail("the VKA's points are not those of the pinned SRS");
  }
}

/**
 * Words that follow from the settings, and the same ones of every circuit: no accumulator, the generators of G1, G2.
 */
function constants(segment: Segment): [number, string, bigint][] {
  const omega = power(ROOT_OF_UNITY, 1n << BigInt(TWO_ADICITY - segment.logrows));
  return [
    [2, "the number of public instances", BigInt(segment.publicInputs + segment.outputLength)],
    [5, "the logarithm of the rows", BigInt(segment.logrows)],
    [6, "the inverse of the number of rows", power(1n << BigInt(segment.logrows), SCALAR_FIELD - 2n)],
    [7, "the domain's generator", omega],
    [8, "the inverse of the domain's generator", power(omega, SCALAR_FIELD - 2n)],
    ...[10, 11, 12, 13].map((at): [number, string, bigint] => [at, "without accumulator", 0n]),
    ...[1n, 2n].map((value, i): [number, string, bigint] => [14 + i, "the generator of G1", value]),
    ...G2.map((value, i): [number, string, bigint] => [G2_AT + i, "the generator of G2", value]),
  ];
}

/** The words of a vk's commitments. How many belong to the permutation, it does not say; selectors come after them. */
function commitments(vk: Uint8Array, logrows: number): { fixed: Digest[]; permutation: Digest[] } {
  const columns = Number(littleEndian(vk.subarray(3, VK_HEADER)));
  const end = VK_HEADER + columns * POINT;
  if (vk[0] !== VK_VERSION || vk[1] !== logrows || columns === 0 || end > vk.length) {
    fail("the vk is not one of ezkl's for so many rows", "circuit.vk");
  }
  const words = (raw: Uint8Array): Digest[] => coordinates(raw).map(asWord);
  return { fixed: words(vk.subarray(VK_HEADER, end)), permutation: words(vk.subarray(end)) };
}

function power(base: bigint, exponent: bigint): bigint {
  let [square, left, found] = [base % SCALAR_FIELD, exponent, 1n];
  for (; left; left >>= 1n) {
    if (left & 1n) found = (found * square) % SCALAR_FIELD;
    square = (square * square) % SCALAR_FIELD;
  }
  return found;
}

function fail(message: string, field = "circuit.vka"): never {
  throw new RexisError(message, { field });
}
