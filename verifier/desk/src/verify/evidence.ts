/** Steps 7 to 10: one task's evidence. Nothing that the worker sent is believed. As `verifier/evidence.py`. */

import type { Digest } from "./bytes";
import type { Evidence } from "./certificate";
import type { SegmentArtefacts } from "./circuit";
import { RexisError } from "./errors";
import { jobsOf, type ProofRunner } from "./proofs";
import { checkOpening } from "./records";
import { passed, type Verdict } from "./report";
import { requireSigner } from "./signing";
import { type AnyRequest, Circuit, type JobRequest, Statement, statementDigest, statementFor } from "./statement";
import { TIERS } from "./tiers";
import type { Domain } from "./typedData";

export const STATEMENT = 7;
const [SELECTION, OPENINGS, PROOFS] = [8, 9, 10];
const FEW = 1 << 12;

export interface TaskContext {
  /** How reports call the task. */
  name: string;
  domain: Domain;
  /** Its signature has been checked. */
  request: JobRequest;
  /** Hash of the block that chooses records: after the commitment (`sampled`) or the anchor (`commit`). */
  block: Digest | null;
  /** The circuit's; none for tier `commit`. */
  segments: readonly SegmentArtefacts[];
  runProofs: ProofRunner;
}

export async function walkEvidence(evidence: Evidence, context: TaskContext, verdict: Verdict): Promise<void> {
  const { statement, openings, proofs } = evidence;
  const { request, name } = context;
  let digest = "";
  await verdict.step(STATEMENT, `statement and worker's signature, ${name}`, () => {
    digest = requireStatement(
      statement,
      evidence.signature,
      request,
      context.domain,
      statement.recordStart,
      statement.recordCount,
    );
    return passed(`statement ${digest} signed by ${statement.worker}`);
  });

  await verdict.step(SELECTION, `records that the tier asks for, ${name}`, () => {
    const required = checkSelection(evidence, context, digest);
    requireSilence(evidence);
    return passed(`${required} of ${statement.recordCount} records opened, ${proofs.length} proved`);
  });

  await verdict.step(OPENINGS, `Merkle openings, ${name}`, () => {
    for (const opening of openings) {
      checkOpening(opening, {
        tier: statement.tier,
        circuit: statement.circuit,
        inputRoot: statement.inputRoot,
        inputSize: statement.inputSize,
        outputRoot: statement.outputRoot,
        start: statement.recordStart,
        count: statement.recordCount,
      });
    }
    const { inputRoot, outputRoot } = statement;
    return passed(`${openings.length} records lead to input root ${inputRoot} and output root ${outputRoot}`);
  });

  if (context.segments.length === 0) return;
  await verdict.step(PROOFS, `proofs, ${name}`, async () => passed(await checkProofs(evidence, context)));
}

/** Step 10. */
async function checkProofs({ openings, proofs }: Evidence, { segments, runProofs }: TaskContext): Promise<string> {
  const fail = (record: number | undefined, reason: string): never => {
    throw new RexisError(`the proof of record ${record} does not hold: ${reason}`, { field: "evidence.proofs" });
  };
  const jobs = openings.flatMap((opening, position) => {
    const proof = proofs[position];
    const found = proof ? jobsOf(proof, opening, segments) : "it is missing";
    return typeof found === "string" ? fail(opening.index, found) : found;
  });
  const answers = await runProofs(jobs);
  const refused = jobs.findIndex((_, index) => !answers[index]?.accepted);
  if (refused >= 0) {
    const segment = segments.length > 1 ? `segment ${refused % segments.length}: ` : "";
    fail(openings[Math.floor(refused / segments.length)]?.index, `${segment}the Solidity verifier rejects it`);
  }
  const gas = answers.reduce((most, answer) => (answer.gas > most ? answer.gas : most), 0n);
  return `${verified(openings.length, segments.length)}; at most ${gas} gas a proof`;
}

/** Step 7: a statement is what the request implies of these records, and its worker signed it; its digest. */
export function requireStatement(
  statement: Statement,
  signature: string,
  request: AnyRequest,
  domain: Domain,
  start: number,
  count: number,
): Digest {
  const expected = statementFor(request, domain, start, count, statement);
  for (const name of Object.keys(expected) as (keyof Statement)[]) {
    const [found, wanted] = [text(statement[name]), text(expected[name])];
    if (found !== wanted) {
      const shown = name === "circuit" ? ["another circuit", "another circuit"] : [found, wanted];
      throw new RexisError(`is ${shown[0]}, the signed request implies ${shown[1]}`, { field: `statement.${name}` });
    }
  }
  const digest = statementDigest(statement, domain);
  requireSigner(digest, signature, statement.worker, "statement");
  return digest;
}

function text(value: Statement[keyof Statement]): string {
  return typeof value === "object" ? Circuit.hash(value) : String(value);
}

/** Exactly the records that the tier asks for are opened and proved; how many. */
function checkSelection(evidence: Evidence, context: TaskContext, digest: Digest): number {
  const { statement, openings, proofs } = evidence;
  const { policy } = context.request;
  const tier = TIERS[statement.tier];
  const number = tier.requiredCount(statement, policy, context.block);
  if (number > FEW && openings.length !== number) {
    // Without a look at which: what it takes to draw many is bounded by the size of the document.
    throw new RexisError(`${openings.length} are there, ${number} are asked for`, { field: "evidence.openings" });
  }
  const required = tier.requiredIndices(statement, policy, digest, context.block);
  requireIndices(
    "openings",
    openings.map((item) => item.index),
    required,
  );
  requireIndices(
    "proofs",
    proofs.map((item) => item.index),
    tier.proves ? required : [],
  );
  return required.length;
}

function requireIndices(what: string, found: readonly number[], required: readonly number[]): void {
  if (found.length === required.length && found.every((index, i) => index === required[i])) return;
  const [there, wanted] = [new Set(found), new Set(required)];
  const missing = required.filter((index) => !there.has(index));
  const extra = [...there].filter((index) => !wanted.has(index)).sort((a, b) => a - b);
  let reason = "records are repeated or out of order";
  if (missing.length) reason = `record ${missing[0]} is asked for but not there (${missing.length} missing)`;
  else if (extra.length) reason = `record ${extra[0]} is there but was not asked for (${extra.length} too many)`;
  throw new RexisError(reason, { field: `evidence.${what}` });
}

/** Errors and times depend on records: where inputs are private, evidence has none. */
function requireSilence(evidence: Evidence): void {
  const { maxAbsErrorE9, rmsErrorE9, computeMs, proveMs } = evidence.measured;
  const told = [maxAbsErrorE9, rmsErrorE9, computeMs, proveMs].some((value) => value !== 0);
  if (evidence.statement.circuit.visibility === "hashed" && told) {
    throw new RexisError("tells errors or times of private inputs, which must be 0", { field: "evidence.measured" });
  }
}

function verified(records: number, segments: number): string {
  if (segments === 1) return `${records} proofs verify with instances rebuilt from the committed records`;
  return (
    `${records} × ${segments} proofs verify; first inputs and last outputs are rebuilt from the committed records, ` +
    "and each segment's outputs are the next one's inputs"
  );
}
