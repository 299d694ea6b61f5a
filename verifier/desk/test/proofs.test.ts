/** The Solidity verifier in the page's EVM: what it accepts and refuses, and what a proof costs. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bn254 } from "@noble/curves/bn254.js";
import { expect, test } from "vitest";
import { concat, type Digest, fromHex, type Hex } from "../src/verify/bytes";
import { DEPLOYMENT, pinnedVerifierCode } from "../src/verify/contracts";
import { BASE_FIELD, isOnCurve, multiply, SCALAR_FIELD } from "../src/verify/bn254";
import { helpWithProofs, shareProofs } from "../src/verify";
import { registerVka } from "../src/verify/solidityVerifier";
import { VECTORS } from "./vectors";

const tiny = JSON.parse(readFileSync(join(VECTORS, "protocol/halo2_tiny.json"), "utf8")) as {
  proof: Hex;
  instances: Digest[];
  vka: Digest[];
};
const proof = fromHex(tiny.proof);
const instances = tiny.instances.map(BigInt);
const word = new Uint8Array(32);
/** What (x, y) → (βx, y) multiplies by. */
const LAMBDA = 0x30644e72e131a029048b6e193fd84104cc37a73fec2bc5e9b8ca0b2d36636f23n;

test("the code is the pinned one, and stands where Python computes it", () => {
  expect(pinnedVerifierCode().length).toBeGreaterThan(10_000);
  const manifest = JSON.parse(readFileSync(join(VECTORS, "certificates/zk/certificate.json"), "utf8")) as {
    domain: { verifyingContract: string };
    contracts: { modelRegistry: string; certifier: string };
  };
  expect(DEPLOYMENT).toMatchObject({ evidenceLog: manifest.domain.verifyingContract, ...manifest.contracts });
});

test("a proof holds with its instances, and with no others", async () => {
  const verifier = await registerVka(tiny.vka);
  expect(await verifier.accepts(proof, instances)).toBe(true);
  expect(verifier.mostGas()).toBeGreaterThan(500_000n);
  expect(verifier.mostGas()).toBeLessThan(600_000n);
  const others = instances.map((value, i) => (i === 0 ? value + 1n : value));
  expect(await verifier.accepts(proof, others)).toBe(false);
  expect(await verifier.accepts(proof, instances.slice(1))).toBe(false);
  expect(await verifier.accepts(proof, [...instances, 0n])).toBe(false);
  expect(
    await verifier.accepts(
      proof,
      instances.map((value) => value + SCALAR_FIELD),
    ),
  ).toBe(false);
});

test.each([
  ["nothing", new Uint8Array(0)],
  ["a word", word],
  ["zeros", new Uint8Array(proof.length)],
  ["a word less", proof.subarray(0, -32)],
  ["a word more", concat(proof, word)],
  ["many words more", concat(proof, new Uint8Array(320))],
  ["a byte less", proof.subarray(0, -1)],
  ["a byte more", concat(proof, Uint8Array.of(0))],
  ["points at infinity", concat(new Uint8Array(64 * 9), proof.subarray(64 * 9))],
])("%s is no proof", async (_, wrong) => {
  // Before and after a good proof has shown how long one is.
  const verifier = await registerVka(tiny.vka);
  expect(await verifier.accepts(wrong, instances)).toBe(false);
  expect(await verifier.accepts(proof, instances)).toBe(true);
  expect(await verifier.accepts(wrong, instances)).toBe(false);
});

test("multiplication is noble's, also at its edges", () => {
  const generator = bn254.G1.Point.BASE;
  const edges = [0n, 1n, 2n, 3n, 15n, 16n, 31n, 32n, 33n, 1n << 127n, (1n << 127n) - 1n, 1n << 253n];
  const orders = [SCALAR_FIELD, 2n * SCALAR_FIELD, (1n << 256n) - 1n, LAMBDA, SCALAR_FIELD - LAMBDA];
  const scalars = [...edges, ...orders.flatMap((order) => [order - 1n, order, order + 1n])];
  // A walk that is the same in every run.
  for (let i = 0n, value = 1n; i < 150n; i++)
    scalars.push((value = (value * 0x9e3779b97f4a7c15f39cc0605cedc835n + i) % (1n << 256n)));
  for (const [i, scalar] of scalars.entries()) {
    const point = generator.multiplyUnsafe(BigInt(i * i + 1));
    const { x, y } = point.toAffine();
    const expected = point.multiplyUnsafe(scalar % SCALAR_FIELD);
    const { x: ex, y: ey } = expected.toAffine();
    expect(multiply([x, y], scalar)).toEqual(expected.is0() ? null : [ex, ey]);
  }
});

test("points are those of the curve, with reduced coordinates", () => {
  expect(isOnCurve([1n, 2n])).toBe(true);
  expect(isOnCurve([1n, BASE_FIELD - 2n])).toBe(true);
  expect(isOnCurve([1n + BASE_FIELD, 2n])).toBe(false);
  expect(isOnCurve([1n, 2n + BASE_FIELD])).toBe(false);
  expect(isOnCurve([1n, 3n])).toBe(false);
  expect(isOnCurve([0n, 0n])).toBe(false);
});

test("every flipped bit of a few places is seen", async () => {
  const verifier = await registerVka(tiny.vka);
  for (let at = 7; at < proof.length; at += Math.floor(proof.length / 9)) {
    const wrong = proof.slice();
    wrong[at] = (wrong[at] ?? 0) ^ (1 << at % 8);
    expect(await verifier.accepts(wrong, instances)).toBe(false);
  }
});

test("another VKA's proof is not this one's", async () => {
  const certificate = JSON.parse(readFileSync(join(VECTORS, "certificates/zk/certificate.json"), "utf8")) as {
    circuit: { vka: Digest[] };
  };
  const verifier = await registerVka(certificate.circuit.vka);
  expect(await verifier.accepts(proof, instances)).toBe(false);
});

test("proofs are shared out to helpers, and each answer comes back to its proof", async () => {
  const channels = [new MessageChannel(), new MessageChannel(), new MessageChannel()];
  for (const { port2 } of channels) helpWithProofs(port2);
  const run = shareProofs(channels.map(({ port1 }) => port1));
  const good = { vka: tiny.vka, proof, instances };
  const bad = { ...good, instances: instances.map((value) => value + 1n) };
  try {
    const jobs = [good, bad, good, good, bad];
    expect((await run(jobs)).map(({ accepted }) => accepted)).toEqual([true, false, true, true, false]);
    expect(await run([])).toEqual([]);
    await expect(run([{ ...good, vka: ["0x"] }])).rejects.toThrow();
  } finally {
    for (const { port1, port2 } of channels) [port1, port2].forEach((port) => port.close());
  }
});

test("a proof takes a fraction of a second, and leaves no memory behind", async () => {
  const verifier = await registerVka(tiny.vka);
  const rounds = 12;
  for (let i = 0; i < rounds; i++) await verifier.accepts(proof, instances); // until it is compiled
  const [cpu, memory] = [process.cpuUsage(), process.memoryUsage.rss()];
  for (let i = 0; i < rounds; i++) expect(await verifier.accepts(proof, instances)).toBe(true);
  const { user, system } = process.cpuUsage(cpu);
  const [seconds, rss] = [(user + system) / 1e6 / rounds, process.memoryUsage.rss()];
  console.log(
    `one proof: ${(seconds * 1e3).toFixed(0)} ms of a core, ${verifier.mostGas()} gas; ` +
      `resident ${(rss / 2 ** 20).toFixed(0)} MiB, ${((rss - memory) / 2 ** 20).toFixed(0)} more after ${rounds}`,
  );
  expect(rss).toBeLessThan(500e6);
  expect(seconds).toBeLessThan(0.9); // of a core that others use, too
});
