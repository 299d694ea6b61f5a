/** Verifies the certificate of an evaluation: steps 2 to 19, as `verifier/certificate.py`. */

import { type EvaluationCertificate, type Parsed, placesOf } from "./certificate";
import { type CheckedCircuit, checkCircuit } from "./circuit";
import { checkAnchor, checkHead, checkRungClaim, checkSurroundings } from "./envelope";
import { RexisError } from "./errors";
import { walkEvidence } from "./evidence";
import type { Options } from "./options";
import { runProofs } from "./proofs";
import { passed, type Verdict } from "./report";
import { isDevelopmentSrs } from "./srs";
import { shardCount, shards } from "./statement";
import { showsOfJob, TIERS } from "./tiers";

const [CIRCUIT, COVER] = [5, 6];
const ONSITE =
  "the certificate shows of each proved record a hash and its output; that the hash is salted, only the encrypted " +
  "model shows (step 13); nothing shows where the records were, or what an output tells of them";
const ONSITE_SAMPLE = "; the requester is the one who proves, and may have asked again until the sample suited it";

export async function verifyEvaluation(
  parsed: Parsed,
  certificate: EvaluationCertificate,
  options: Options,
  verdict: Verdict,
): Promise<void> {
  const { request } = certificate;
  const { proves } = TIERS[request.policy.tier];
  const developmentSrs = proves && isDevelopmentSrs(request.circuit.srsDigest);
  await checkHead(parsed, "evaluation", options, verdict, developmentSrs);
  const circuit = await checkArtefacts(certificate, options, verdict, proves, developmentSrs);

  await verdict.step(COVER, "tasks cover the job", () => passed(checkCover(certificate)));

  for (const [position, place] of placesOf(certificate).entries()) {
    const task = certificate.tasks[position];
    if (!task) continue;
    const { statement } = task.evidence;
    const name = `records ${statement.recordStart}–${statement.recordStart + statement.recordCount - 1}`;
    const block = task.commitment ? task.commitment.challengeBlockHash : task.openingBlockHash;
    const context = { name, domain: certificate.domain, request, block, segments: circuit?.segments ?? [] };
    await walkEvidence(task.evidence, { ...context, runProofs: options.runProofs ?? runProofs }, verdict);
    await checkAnchor(certificate, place, name, verdict);
    const attempt = task.commitment?.attempt ?? 1;
    verdict.shows.push(`${name}: ${TIERS[statement.tier].shows(statement, request.policy, attempt)}`);
  }
  if (request.policy.tier === "sampled" && certificate.tasks.length > 1) {
    const attempts = certificate.tasks.map((task) => task.commitment?.attempt ?? 1);
    verdict.shows.push(
      showsOfJob(
        request,
        attempts.reduce((a, b) => Math.max(a, b)),
      ),
    );
  }
  await checkSurroundings(certificate, options, verdict, () => checkRung(certificate));
}

/** Step 5. What only ezkl could find is told as a step of its own. */
async function checkArtefacts(
  certificate: EvaluationCertificate,
  options: Options,
  verdict: Verdict,
  proves: boolean,
  developmentSrs: boolean,
): Promise<CheckedCircuit | undefined> {
  if (!proves) {
    if (certificate.circuit !== null) {
      await verdict.step(CIRCUIT, "circuit", () => {
        throw new RexisError("tier commit has no circuit, but the certificate carries one", { field: "circuit" });
      });
    }
    return undefined;
  }
  const circuit = await verdict.step(CIRCUIT, "circuit", () => {
    const found = checkCircuit(certificate.circuit, certificate.request.circuit, options.srs);
    const points = options.srs ? ", its points are the SRS's" : "";
    const holds = `the VKA holds the vk's ${found.commitments} commitments`;
    const detail = `settings, vk and VKA have the pinned digests; ${holds}`;
    return { detail: detail + points, found };
  });
  if (!options.srs) {
    verdict.add(
      CIRCUIT,
      "circuit, points of the SRS",
      developmentSrs ? "skipped" : "unchecked",
      "no SRS file: nothing here shows that the VKA was made with the pinned SRS, and not with one whose secret " +
        "somebody knows",
      "add the SRS file",
    );
  }
  verdict.add(
    CIRCUIT,
    "circuit, VKA from vk and settings",
    "skipped",
    "a page has no ezkl: that the VKA evaluates the constraints that the settings name is not shown here; the proofs " +
      "below are about the VKA that the request pins",
    "`rexis verify` derives the VKA again",
  );
  return circuit;
}

/** Step 6. */
function checkCover(certificate: EvaluationCertificate): string {
  const { request, tasks } = certificate;
  const fail = (message: string, field: string): never => {
    throw new RexisError(message, { field });
  };
  const count = shardCount(request);
  if (tasks.length !== count) {
    // Before any list that is as long as the request likes.
    fail(`${tasks.length} tasks, the request asks for ${count}`, "tasks");
  }
  const wanted = shards(request);
  const found = tasks.map(({ evidence }) => [evidence.statement.recordStart, evidence.statement.recordCount] as const);
  if (found.some(([start, size], i) => start !== wanted[i]?.[0] || size !== wanted[i]?.[1])) {
    fail(`tasks cover ${ranges(found)}, the request asks for ${ranges(wanted)}`, "tasks");
  }
  const { policy } = request;
  for (const [position, task] of tasks.entries()) {
    const where = `tasks.${position}`;
    if ((task.commitment !== null) !== (policy.tier === "sampled")) {
      fail("a commitment belongs to tier sampled, and to no other", `${where}.commitment`);
    }
    if (task.commitment !== null && task.commitment.attempt > policy.maxAttempts) {
      fail(
        `attempt ${task.commitment.attempt}, the policy allows ${policy.maxAttempts}`,
        `${where}.commitment.attempt`,
      );
    }
    if ((task.openingBlockHash !== null) !== (policy.tier === "commit")) {
      fail("an opening block belongs to tier commit", `${where}.openingBlockHash`);
    }
    const wants = policy.certifyOnChain ? task.evidence.statement.recordCount : 0;
    if (task.certified.length !== wants) {
      fail(`${task.certified.length} on-chain certifications, the policy implies ${wants}`, `${where}.certified`);
    }
  }
  const end = request.recordStart + request.recordCount - 1;
  return `${tasks.length} tasks cover records ${request.recordStart}–${end} of ${request.inputSize}`;
}

/** Step 19. */
function checkRung(certificate: EvaluationCertificate): string {
  const { policy } = certificate.request;
  const claim = checkRungClaim(certificate);
  if (policy.rung !== "zk-onsite") return `${policy.rung}: ${claim ?? "nothing is claimed of the weights"}`;
  return `${policy.rung}: ${ONSITE}${policy.tier === "sampled" ? ONSITE_SAMPLE : ""}`;
}

function ranges(parts: readonly (readonly [number, number])[]): string {
  const shown = parts
    .slice(0, 4)
    .map(([start, count]) => `${start}–${start + count - 1}`)
    .join(", ");
  return shown + (parts.length > 4 ? ` and ${parts.length - 4} more` : "");
}
