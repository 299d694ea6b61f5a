/** Verifies the certificate of a trained model, as `verifier/training_certificate.py` and `verifier/training.py`. */

import { type Parsed, placesOf, type TrainingCertificate } from "./certificate";
import { checkAnchor, checkHead, checkRungClaim, checkSurroundings } from "./envelope";
import { RexisError } from "./errors";
import { requireStatement, STATEMENT } from "./evidence";
import type { Options } from "./options";
import { passed, type Verdict } from "./report";
import { challengedSegments, checkTranscript, handOvers, planDigest, segmentsOf, type TrainingPlan } from "./training";

const [COVER, PLAN, TRANSCRIPT, SEGMENTS] = [6, 21, 22, 26];
/** What needs files that the evidence names by digest, and ONNX or PyTorch. */
const ELSEWHERE: readonly [number, string, string][] = [
  [23, "first state", "a page cannot read models: that training began from the base model's weights is not shown here"],
  [24, "trained model", "a page cannot write models: that the last state is the named model is not shown here"],
  [25, "dataset", "the dataset is not in the certificate: that it has the committed root is not shown here"],
];
const HINT = "`rexis verify --artifacts FOLDER` takes this step";

export async function verifyTraining(
  parsed: Parsed,
  certificate: TrainingCertificate,
  options: Options,
  verdict: Verdict,
): Promise<void> {
  const { request, plan, commitment, evidence, domain } = certificate;
  const { policy } = request;
  await checkHead(parsed, "training", options, verdict, false);
  await verdict.step(COVER, "commitment that the tier asks for", () => {
    if ((commitment !== null) !== (policy.tier === "sampled")) {
      throw new RexisError("a commitment belongs to tier sampled, and to no other", { field: "commitment" });
    }
    if (commitment !== null && commitment.attempt > policy.maxAttempts) {
      throw new RexisError(`attempt ${commitment.attempt}, the policy allows ${policy.maxAttempts}`, {
        field: "commitment.attempt",
      });
    }
    return passed(commitment ? `attempt ${commitment.attempt} of ${policy.maxAttempts}` : "none, tier commit");
  });

  let digest = "";
  await verdict.step(STATEMENT, "statement and worker's signature", () => {
    digest = requireStatement(evidence.statement, evidence.signature, request, domain, 0, request.recordCount);
    return passed(`statement ${digest} signed by ${evidence.statement.worker}`);
  });
  await verdict.step(PLAN, "training plan", () => {
    const found = planDigest(plan);
    if (found !== request.planDigest) {
      throw new RexisError(`has digest ${found}, the request pins ${request.planDigest}`, { field: "plan" });
    }
    return passed(describePlan(plan));
  });
  await verdict.step(TRANSCRIPT, "transcript", () => passed(checkEvidence(certificate)));

  for (const [number, name, why] of ELSEWHERE) verdict.add(number, name, "unchecked", why, HINT);
  if (policy.tier === "sampled" && commitment) {
    const drawn = challengedSegments(plan, digest, commitment.challengeBlockHash, policy.sampleSize);
    const shown = drawn.slice(0, 8).join(", ") + (drawn.length > 8 ? ` and ${drawn.length - 8} more` : "");
    verdict.add(
      SEGMENTS,
      "segments taken again",
      "unchecked",
      `the challenge drew segments ${shown} of ${segmentsOf(plan)}, and a page cannot train`,
      HINT,
    );
  }

  const [place] = placesOf(certificate);
  if (place) await checkAnchor(certificate, place, "the training", verdict);
  await checkSurroundings(certificate, options, verdict, () => {
    const claim = checkRungClaim(certificate);
    return `${policy.rung}: ${claim ?? "nothing is claimed of the weights"}`;
  });
  verdict.shows.push(shows(certificate));
}

/** What passing shows here, where no step is taken again. */
function shows(certificate: TrainingCertificate): string {
  const { evidence, plan } = certificate;
  const made = evidence.transcript[evidence.transcript.length - 1]?.checkpoint.modelDigest;
  return (
    `${workers(certificate)} signed that ${plan.steps} steps made model ${made} out of ` +
    `${evidence.statement.modelDigest}; nothing is shown of the steps`
  );
}

/** Step 22. */
function checkEvidence(certificate: TrainingCertificate): string {
  const { evidence, plan, domain } = certificate;
  const { statement, transcript } = evidence;
  const root = checkTranscript(transcript, plan, statement.taskId, domain);
  if (root !== statement.outputRoot) {
    throw new RexisError(`the transcript has root ${root}, the statement says ${statement.outputRoot}`, {
      field: "statement.outputRoot",
    });
  }
  const last = transcript[transcript.length - 1]?.checkpoint.worker;
  if (last !== statement.worker) {
    throw new RexisError(`the statement is ${statement.worker}'s, the last checkpoint ${last}'s`, {
      field: "statement.worker",
    });
  }
  return `${transcript.length} checkpoints under ${statement.outputRoot}; ${workers(certificate)}`;
}

/** Who took which segments. */
function workers(certificate: TrainingCertificate): string {
  const [first, ...others] = handOvers(certificate.evidence.transcript);
  const later = others.map(({ index, worker }) => `, from segment ${index - 1} on ${worker}`).join("");
  return `worker ${first?.worker}${later}`;
}

function describePlan(plan: TrainingPlan): string {
  return (
    `${plan.steps} steps of ${plan.batchSize} records with ${plan.optimiser.kind}, ` +
    `${plan.trainable.length} tensors trained, ${segmentsOf(plan)} segments`
  );
}
