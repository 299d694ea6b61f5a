/** What page and worker say to each other. */

import type { Quorum, Report, Step } from "../verify";
import type { Facts } from "./facts";

export interface Pins {
  job?: string;
  model?: string;
  requester?: string;
}

/** What the auditor brings, as far as it is not a file. */
export interface Choices {
  pins: Pins;
  allowDevelopmentChain: boolean;
  allowDevelopmentSrs: boolean;
  /** A chain node's URL; null to ask nobody. */
  node: string | null;
  /** Whose validators' verdicts count, by the manifest of this name; null if nobody's do. */
  quorum: (Quorum & { name: string }) | null;
}

/** A certificate's bytes, and the SRS file that it names if it is at hand. */
export interface Document {
  name: string;
  data: Uint8Array;
  srs: Uint8Array | null;
}

/** Several are verified together: each one's own steps, then that all lead back to one base model. */
export interface Order {
  documents: Document[];
  choices: Choices;
}

export interface Found extends Pick<Report, "result" | "steps" | "shows"> {
  /** Null where not even the form was right, and of several certificates. */
  facts: Facts | null;
}

/** To a worker: what to verify, who checks proofs for it, or for whom it checks them. */
export type Message = Order | { helpers: MessagePort[] } | { helps: MessagePort };

/** From a worker that verifies; `wantsHelp` is said once, where there are many proofs. */
export type Answer = { steps: Step[] } | { found: Found } | { crashed: string } | { wantsHelp: true };
