/**
 * Step 28: what validators said of a certificate's statements, by the quorum that the auditor named. As
 * `verifier/validators.py`.
 *
 * No certificate or request can name it for an auditor: a quorum is anybody's to deploy, so the coordinator's or the
 * requester's could be of their friends.
 */

import type { Quorum } from "./accountability";
import type { Certificate, Place } from "./certificate";
import type { Chain } from "./chain";
import { RexisError } from "./errors";
import { passed, type Verdict } from "./report";
import { MAX_VALIDATORS, statementDigest } from "./statement";

const VALIDATORS = 28;
const NAME = "validators' verdicts";

/** Tell why the step is not taken, if it is not; whether that is so. Where nobody wants it, there is nothing to tell. */
export function leaveOutValidators(
  certificate: Certificate,
  given: { offline: boolean; quorum: Quorum | undefined },
  verdict: Verdict,
): boolean {
  const { policy, kind } = certificate.request;
  const wanted = `the policy wants ${policy.validators} validators`;
  if (policy.validators === 0 && !given.quorum) return true;
  if (given.offline) {
    verdict.add(VALIDATORS, NAME, "skipped", `offline: ${wanted}; nobody looked what they said`);
  } else if (kind === "training" && policy.validators === 0) {
    verdict.add(VALIDATORS, NAME, "skipped", "validators do not judge trainings");
  } else if (!given.quorum) {
    const hint = "give the manifest of the validators that you trust: a certificate cannot say whom";
    verdict.add(VALIDATORS, NAME, "unchecked", `${wanted}, and you named none`, hint);
  } else {
    return false;
  }
  return true;
}

/** Take the step: the quorum found every statement valid, with as many signers as the policy wants. */
export async function checkValidators(
  certificate: Certificate,
  places: readonly Place[],
  chain: Chain,
  quorum: Quorum,
  verdict: Verdict,
): Promise<void> {
  await verdict.step(VALIDATORS, NAME, async () => {
    await requireQuorum(chain, quorum);
    return passed(await check(certificate, places, chain, quorum));
  });
}

async function requireQuorum(chain: Chain, { chainId, address }: Quorum): Promise<void> {
  const found = await chain.id();
  if (found !== chainId) {
    throw new RexisError(`the deployment is on chain ${chainId}, this node is on chain ${found}`, { field: "chainId" });
  }
  if (!(await chain.hasCode(address))) {
    throw new RexisError(`no ValidatorQuorum at ${address} on chain ${found}`, { hint: "deployed on other terms?" });
  }
}

async function check(
  certificate: Certificate,
  places: readonly Place[],
  chain: Chain,
  { address }: Quorum,
): Promise<string> {
  const wanted = Math.max(certificate.request.policy.validators, 1);
  let fewest = MAX_VALIDATORS;
  let least = 1000n;
  for (const { where, statement, anchor } of places) {
    const field = `${where}evidence`;
    const digest = statementDigest(statement, certificate.domain);
    const found = await chain.verdict(address, digest, anchor.blockNumber);
    if (found === null) {
      throw new RexisError(`quorum ${address} has no verdict on statement ${digest} since its anchor`, {
        field,
        hint: "another quorum's manifest, or validators have not judged",
      });
    }
    if (!found.valid) {
      throw new RexisError(`validators found statement ${digest} not valid, in transaction ${found.transaction}`, {
        field,
      });
    }
    if (found.signers < wanted) {
      throw new RexisError(`${found.signers} validators signed for statement ${digest}, the policy wants ${wanted}`, {
        field,
      });
    }
    fewest = Math.min(fewest, found.signers);
    const share = (found.stake * 1000n) / (found.active || 1n); // rounded down: "or more"
    least = share < least ? share : least;
  }
  const percent = (Number(least) / 10).toFixed(1);
  return `${fewest} or more validators of quorum ${address}, with ${percent}% or more of its stake of then, found each statement valid`;
}
