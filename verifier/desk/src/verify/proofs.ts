/**
 * Step 10: the proofs of one task, checked in this thread or in several. As `check_proofs` of `circuits/verifying.py`.
 */

import { type Digest, fromHex } from "./bytes";
import type { RecordProof } from "./certificate";
import type { SegmentArtefacts } from "./circuit";
import { instancesOf, type Opening } from "./records";
import { registerVka } from "./solidityVerifier";

/** One proof of one segment, with the public instances that it must be about. Can be sent to another thread. */
export interface ProofJob {
  vka: readonly Digest[];
  proof: Uint8Array;
  instances: readonly bigint[];
}

export interface ProofAnswer {
  accepted: boolean;
  gas: bigint;
}

/** Checks proofs; an answer for each. */
export type ProofRunner = (jobs: readonly ProofJob[]) => Promise<readonly ProofAnswer[]>;

/** One after the other, in this thread. */
export const runProofs: ProofRunner = async (jobs) => {
  const answers: ProofAnswer[] = [];
  for (const { vka, proof, instances } of jobs) {
    const verifier = await registerVka(vka);
    answers.push({ accepted: await verifier.accepts(proof, instances), gas: verifier.mostGas() });
  }
  return answers;
};

/** In the threads at the other ends of these ports, in which {@link helpWithProofs} has been called. */
export function shareProofs(ports: readonly MessagePort[]): ProofRunner {
  return async (jobs) => {
    const shares = ports.map((_, lane) => jobs.filter((__, index) => index % ports.length === lane));
    const answers = await Promise.all(ports.map((port, lane) => ask(port, shares[lane] ?? [])));
    return jobs.map((_, index) => answers[index % ports.length]?.[Math.floor(index / ports.length)] ?? REFUSED);
  };
}

/** Answer what {@link shareProofs} asks through this port. */
export function helpWithProofs(port: MessagePort): void {
  port.onmessage = async ({ data }: MessageEvent<readonly ProofJob[]>) => {
    try {
      port.postMessage(await runProofs(data));
    } catch (error) {
      port.postMessage(String(error));
    }
  };
}

const REFUSED: ProofAnswer = { accepted: false, gas: 0n };

function ask(port: MessagePort, jobs: readonly ProofJob[]): Promise<readonly ProofAnswer[]> {
  return new Promise((resolve, reject) => {
    port.onmessage = ({ data }: MessageEvent<readonly ProofAnswer[] | string>) => {
      if (typeof data === "string") reject(new Error(data));
      else resolve(data);
    };
    port.postMessage(jobs);
  });
}

/** A record's proofs, a job for each segment; or why they cannot be those of the circuit. */
export function jobsOf(
  proof: RecordProof,
  opening: Opening,
  segments: readonly SegmentArtefacts[],
): readonly ProofJob[] | string {
  const count = segments.length;
  if (proof.proofs.length !== count || proof.boundaries.length !== count - 1) {
    return (
      `${proof.proofs.length} proofs with ${proof.boundaries.length} boundaries between them; the circuit has ` +
      `${count} segments, and ${count - 1} boundaries`
    );
  }
  const hashed = segments[0]?.settings.visibility === "hashed";
  const between = proof.boundaries.map((payload) => instancesOf(fromHex(payload), false));
  const values = [instancesOf(fromHex(opening.input), hashed), ...between, instancesOf(fromHex(opening.output), false)];
  // What is opened has been compared with the circuit's lengths; what lies between segments has not.
  const wrong = between.findIndex((each, place) => each.length !== segments[place]?.settings.outputLength);
  if (wrong >= 0) {
    const wanted = segments[wrong]?.settings.outputLength;
    return `${between[wrong]?.length} values on boundary ${wrong}, the circuit has ${wanted}`;
  }
  // The same values are a segment's outputs and the next one's inputs.
  return segments.map(({ vka }, place) => ({
    vka,
    proof: fromHex(proof.proofs[place] ?? "0x"),
    instances: [...(values[place] ?? []), ...(values[place + 1] ?? [])],
  }));
}
