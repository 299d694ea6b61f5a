/** What the auditor brings. */

import type { Quorum } from "./accountability";
import type { ChainNode } from "./node";
import type { ProofRunner } from "./proofs";

/** Whatever is pinned here must be what the certificate says. */
export interface Options {
  /** The certificate itself cannot tell an auditor which job, model or requester is meant. */
  pins?: { job?: string; model?: string; requester?: string };
  /** Accept parameters that prove nothing to a stranger. */
  allowDevelopmentChain?: boolean;
  allowDevelopmentSrs?: boolean;
  /** A chain node that the auditor trusts; without one the chain steps are skipped. */
  node?: ChainNode;
  /** Whose validators' verdicts count. Without it, where the policy wants any, step 28 is undecided. */
  quorum?: Quorum;
  /** The SRS file. The proofs need none, but that their VKA was made with the pinned one, only the file shows. */
  srs?: Uint8Array;
  /** Who checks the proofs, where nearly all the time goes; by default this thread. See `shareProofs`. */
  runProofs?: ProofRunner;
}
