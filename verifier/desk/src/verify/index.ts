/**
 * Verifies certificates inside a page: no server, no key; it believes neither worker nor coordinator.
 *
 * The steps are those of `verifier/certificate.py` and `verifier/training.py`, with the same numbers and names. What a
 * page cannot do (ezkl, running models, training) is said in steps that are `skipped` or `unchecked`: see
 * `docs/adr/0024-verification-in-the-browser.md`.
 */

import { type Certificate, isTraining, parseCertificate } from "./certificate";
import { verifyEvaluation } from "./evaluation";
import { checkLineage, type Named } from "./lineage";
import type { Options } from "./options";
import { passed, type Report, type Step, StepFailed, Verdict } from "./report";
import { verifyTraining } from "./trainingCertificate";

export type { Quorum } from "./accountability";
export type { Certificate, EvaluationCertificate, TrainingCertificate } from "./certificate";
export type { Named } from "./lineage";
export { type ChainNode, httpNode, NodeError } from "./node";
export type { Options } from "./options";
export { helpWithProofs, type ProofRunner, runProofs, shareProofs } from "./proofs";
export type { Report, Result, Status, Step } from "./report";

const [FORM, LINEAGE] = [1, 27];

/**
 * Take all the steps; stops at the first that fails.
 *
 * It keeps its thread busy, a fraction of a second for each proof: a page runs it in a worker, and may share proofs out.
 */
export async function verifyCertificate(
  data: Uint8Array,
  options: Options,
  onStep?: (step: Step) => void,
): Promise<Report> {
  const verdict = new Verdict(onStep);
  const certificate = await walk(data, options, verdict);
  return {
    result: verdict.result,
    steps: verdict.steps,
    shows: verdict.shows,
    kind: certificate && (isTraining(certificate) ? "training" : "evaluation"),
    document: certificate,
  };
}

/** Of several certificates. */
export interface LineageReport extends Omit<Report, "kind" | "document"> {
  /** Those that were read before a step failed, in order. */
  certificates: readonly Named[];
}

/**
 * Verify several certificates together: each one's own steps, then that all lead back to one base model.
 *
 * `options.pins.model` is that of the base model.
 */
export async function verifyLineage(
  documents: readonly { name: string; data: Uint8Array; srs?: Uint8Array }[],
  options: Options,
  onStep?: (step: Step) => void,
): Promise<LineageReport> {
  const whole = new Verdict(onStep);
  const read: Named[] = [];
  const { model: base, ...pins } = options.pins ?? {};
  const { srs: _, ...shared } = options;
  for (const { name, data, srs } of documents) {
    const own = new Verdict((step) =>
      whole.add(step.number, `${name}: ${step.name}`, step.status, step.detail, step.hint),
    );
    const certificate = await walk(data, { ...shared, pins, ...(srs && { srs }) }, own);
    if (certificate) read.push({ name, certificate });
    whole.shows.push(...own.shows.map((sentence) => `${name}: ${sentence}`));
    if (own.result === "not valid") break;
  }
  if (whole.result !== "not valid") {
    await stopping(() => whole.step(LINEAGE, "lineage", () => passed(checkLineage(read, base))));
  }
  return { result: whole.result, steps: whole.steps, shows: whole.shows, certificates: read };
}

/** All steps of one certificate; what was read, null if nothing could be. */
async function walk(data: Uint8Array, options: Options, verdict: Verdict): Promise<Certificate | null> {
  let certificate: Certificate | null = null;
  await stopping(async () => {
    const parsed = await verdict.step(FORM, "form", () => {
      const found = parseCertificate(data);
      return { detail: `${found.certificate.format}, ${data.length} bytes, canonical`, found };
    });
    if (!parsed) return;
    certificate = parsed.certificate;
    if (isTraining(certificate)) await verifyTraining(parsed, certificate, options, verdict);
    else await verifyEvaluation(parsed, certificate, options, verdict);
  });
  return certificate;
}

/** A step that failed ends what it is part of, and is told already. */
async function stopping(take: () => Promise<unknown>): Promise<void> {
  try {
    await take();
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
  }
}
