/**
 * Step 28: what validators said of a certificate's statements, as `verifier/validators.py`. A page names no quorum: so
 * it tells where the policy wants one, and no more.
 */

import type { Certificate } from "./certificate";
import type { Verdict } from "./report";

const VALIDATORS = 28;
const NAME = "validators' verdicts";

export function leaveOutValidators(certificate: Certificate, offline: boolean, verdict: Verdict): void {
  const { validators } = certificate.request.policy;
  if (validators === 0) return;
  const wanted = `the policy wants ${validators} validators`;
  if (offline) {
    verdict.add(VALIDATORS, NAME, "skipped", `offline: ${wanted}; nobody looked what they said`);
  } else {
    const hint = "`rexis verify --quorum MANIFEST` asks the validators that you trust: a certificate cannot say whom";
    verdict.add(VALIDATORS, NAME, "unchecked", `${wanted}, and a page cannot name any`, hint);
  }
}
