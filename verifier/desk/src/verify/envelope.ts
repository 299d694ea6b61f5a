/**
 * The steps around the tasks that certificates of both kinds share: 2 to 4, 11, 14 to 19, and 28. As
 * `verifier/envelope.py`.
 */

import { fromHex } from "./bytes";
import { type Certificate, type Parsed, type Place, placesOf } from "./certificate";
import { checkChain, DEPLOYMENT_STEP } from "./chain";
import { DEPLOYMENT, requireDeployment } from "./contracts";
import { RexisError } from "./errors";
import { checkInclusion } from "./merkle";
import type { Options } from "./options";
import { passed, type Verdict } from "./report";
import { requireRungClaim } from "./rung";
import { requireSigner, textDigest } from "./signing";
import { jobId, type Kind, statementDigest } from "./statement";
import { leaveOutValidators } from "./validators";

const [SEAL, REQUEST, DEVELOPMENT, ANCHOR, RUNG] = [2, 3, 4, 11, 19];
const DEVELOPMENT_CHAINS = [1337, 31337]; // geth --dev, anvil/hardhat
const MARKERS = { chain: "chain", srs: "SRS" } as const;

/** Steps 2 to 4. `developmentSrs`: the certificate's proofs stand on a development SRS. */
export async function checkHead(
  parsed: Parsed,
  kind: Kind,
  options: Options,
  verdict: Verdict,
  developmentSrs: boolean,
): Promise<void> {
  const { certificate } = parsed;
  await verdict.step(SEAL, "coordinator's seal", () => {
    const { coordinator } = certificate.request;
    requireSigner(textDigest(parsed.sealText), certificate.seal, coordinator, "certificate");
    return passed(`document sealed by coordinator ${coordinator}`);
  });
  await verdict.step(REQUEST, "request and requester's signature", () =>
    passed(checkRequest(certificate, kind, options)),
  );
  await verdict.step(DEVELOPMENT, "development parameters", () =>
    passed(checkDevelopment(certificate, options, developmentSrs)),
  );
}

/** Step 11, of the task called `name`. */
export async function checkAnchor(
  certificate: Certificate,
  place: Place,
  name: string,
  verdict: Verdict,
): Promise<void> {
  await verdict.step(ANCHOR, `anchor, ${name}`, () => {
    const { anchor } = place;
    const digest = fromHex(statementDigest(place.statement, certificate.domain));
    checkInclusion(anchor.root, anchor.size, anchor.leafIndex, digest, anchor.path, "statement digest");
    return passed(`statement is leaf ${anchor.leafIndex} of ${anchor.size} under ${anchor.root}`);
  });
}

/** Steps 14 to 19, and 28; `rung` says what step 19 finds. */
export async function checkSurroundings(
  certificate: Certificate,
  options: Options,
  verdict: Verdict,
  rung: () => string,
): Promise<void> {
  await verdict.step(DEPLOYMENT_STEP, "deployment", () => {
    requireDeployment(certificate);
    return passed(
      `EvidenceLog ${DEPLOYMENT.evidenceLog}, its registry and its certifier stand where their code puts them`,
    );
  });
  if (options.node) {
    await checkChain(certificate, placesOf(certificate), options.node, options.quorum, verdict);
  } else {
    verdict.add(
      DEPLOYMENT_STEP,
      "against the chain",
      "skipped",
      "offline: registry, commitments, block hashes and anchors are as the certificate says",
      "name a chain node that you trust",
    );
    leaveOutValidators(certificate, { offline: true, quorum: options.quorum }, verdict);
  }
  await verdict.step(RUNG, "privacy rung", () => passed(rung()));
}

/** Step 19, of the rungs without circuit: what is claimed; null if nothing is. Step 15 saw whose model it is. */
export function checkRungClaim(certificate: Certificate): string | null {
  const { request, rungClaim, domain } = certificate;
  const { rung } = request.policy;
  if (rung !== "ee-private-weights") {
    if (rungClaim) throw new RexisError(`a claim, but the job asked for rung ${rung}`, { field: "rungClaim" });
    return null;
  }
  if (!rungClaim) {
    throw new RexisError(`is missing: rung ${rung} rests on the model owner's claim`, { field: "rungClaim" });
  }
  return requireRungClaim(rungClaim, domain, { rung, model: request.modelDigest, epoch: request.keyEpoch });
}

/** Step 3. */
function checkRequest(certificate: Certificate, kind: Kind, options: Options): string {
  const { request, domain } = certificate;
  const job = jobId(request, domain);
  requireSigner(job, certificate.requestSignature, request.requester, "request");
  if (request.kind !== kind) throw new RexisError(`this format is for ${kind}s only`, { field: "request.kind" });
  const { pins = {} } = options;
  const pinned: [string, string | undefined, string][] = [
    ["requester", pins.requester, request.requester],
    ["model", pins.model, request.modelDigest],
  ];
  for (const [what, wanted, found] of [...pinned, ["job", pins.job, job] as const]) {
    if (wanted !== undefined && wanted !== found) {
      throw new RexisError(`the certificate is for ${what} ${found}, you pinned ${wanted}`);
    }
  }
  const unpinned = pinned.filter(([, wanted]) => wanted === undefined).map(([what, , found]) => `${what} ${found}`);
  const text = `job ${job} on chain ${domain.chainId}`;
  return text + (unpinned.length ? `; compare yourself: ${unpinned.join(", ")}` : "; all pins match");
}

/** Step 4: derive the markers instead of believing them. */
function checkDevelopment(certificate: Certificate, options: Options, developmentSrs: boolean): string {
  const found: ("chain" | "srs")[] = [];
  if (DEVELOPMENT_CHAINS.includes(certificate.domain.chainId)) found.push("chain");
  if (developmentSrs) found.push("srs");
  if (certificate.development.join() !== found.join()) {
    const list = (markers: readonly string[]): string => `[${markers.map((marker) => `'${marker}'`).join(", ")}]`;
    throw new RexisError(`marks ${list(certificate.development)}, but ${list(found)} is what it uses`, {
      field: "development",
    });
  }
  const allowed = { chain: options.allowDevelopmentChain, srs: options.allowDevelopmentSrs };
  for (const marker of found) {
    if (!allowed[marker]) {
      throw new RexisError(`uses a development ${MARKERS[marker]}, which proves nothing to a stranger`, {
        hint: `allow a development ${MARKERS[marker]} if you only try things out`,
      });
    }
  }
  return found.length ? `${found.join(", ")}: development only, allowed by you` : "none";
}
