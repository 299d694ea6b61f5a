/** What the page holds: certificates with what came of them, files by digest, reports, and what the auditor chose. */

import type { Step } from "../verify";
import type { BenchReport } from "./bench";
import type { Given } from "./files";
import type { AttackReport, LeakageCard } from "./leakage";
import type { Choices, Document, Found } from "./messages";
import type { Opinion } from "./server";

export type Progress = "waiting" | "running" | "done" | "crashed" | "stopped";

export interface Certificate {
  id: number;
  name: string;
  digest: string;
  data: Uint8Array;
  progress: Progress;
  steps: Step[];
  found: Found | null;
  /** Why it did not come to an end, if it did not. */
  trouble: string | null;
  /** What it was, or is being, verified with. */
  choices: Choices | null;
  seconds: number;
  opinion: Opinion | "asking" | { refused: string } | null;
}

export interface State {
  certificates: Certificate[];
  artefacts: ReadonlyMap<string, Uint8Array>;
  bench: BenchReport | null;
  card: LeakageCard | null;
  attacks: AttackReport | null;
  choices: Choices;
  /** Why files were refused, the last first. */
  refusals: string[];
  /** What was last taken in, for whoever does not see it appear. */
  said: string;
}

export const CHOICES: Choices = { pins: {}, allowDevelopmentChain: false, allowDevelopmentSrs: false, node: null, quorum: null };

export const START: State = {
  certificates: [],
  artefacts: new Map(),
  bench: null,
  card: null,
  attacks: null,
  choices: CHOICES,
  refusals: [],
  said: "",
};

export type Action =
  | { do: "give"; given: Given }
  | { do: "refuse"; reason: string }
  | { do: "forget" }
  | { do: "choose"; choices: Partial<Choices> }
  | { do: "change"; id: number; to: Partial<Certificate> }
  | { do: "steps"; id: number; steps: Step[] }
  | { do: "again"; ids: number[] | null }
  | { do: "remove"; ids: number[] | null };

const MAX_REFUSALS = 5;
let next = 1;

export function reduce(state: State, action: Action): State {
  switch (action.do) {
    case "give":
      return take(state, action.given);
    case "refuse":
      return { ...state, refusals: [action.reason, ...state.refusals].slice(0, MAX_REFUSALS) };
    case "forget":
      return { ...state, refusals: [] };
    case "choose":
      return { ...state, choices: { ...state.choices, ...action.choices } };
    case "change":
      return withEach(state, [action.id], (each) => ({ ...each, ...action.to }));
    case "steps":
      return withEach(state, [action.id], (each) => ({ ...each, steps: [...each.steps, ...action.steps] }));
    case "again":
      return withEach(state, action.ids, fresh);
    case "remove":
      return { ...state, certificates: action.ids === null ? [] : state.certificates.filter(({ id }) => !action.ids!.includes(id)) };
  }
}

function take(state: State, given: Given): State {
  const told = (text: string): State => ({ ...state, said: text });
  switch (given.kind) {
    case "certificate": {
      const certificate = fresh({ id: next++, name: given.name, digest: given.digest, data: given.data, opinion: null } as Certificate);
      return { ...told(`${given.name}: verifying`), certificates: [certificate, ...state.certificates] };
    }
    case "artefact":
      return { ...told(`${given.name}: kept for certificates that name it`), artefacts: new Map(state.artefacts).set(given.digest, given.data) };
    case "quorum":
      return { ...told(`${given.name}: its validators’ verdicts count`), choices: { ...state.choices, quorum: { ...given.quorum, name: given.name } } };
    case "bench":
      return { ...told(`${given.name}: benchmark report`), bench: given.report };
    case "card":
      return { ...told(`${given.name}: leakage card`), card: given.card };
    case "attacks":
      return { ...told(`${given.name}: report of attacks`), attacks: given.report };
  }
}

const fresh = (each: Certificate): Certificate => ({
  ...each,
  progress: "waiting",
  steps: [],
  found: null,
  trouble: null,
  choices: null,
  seconds: 0,
});

function withEach(state: State, ids: number[] | null, change: (each: Certificate) => Certificate): State {
  return { ...state, certificates: state.certificates.map((each) => (ids === null || ids.includes(each.id) ? change(each) : each)) };
}

/** What a worker is given of a certificate. The SRS is found by digest; the library compares it anyway. */
export function documentOf({ name, data }: Certificate, artefacts: State["artefacts"]): Document {
  const named = artefacts.size > 0 ? /"srsDigest":"(0x[0-9a-f]{64})"/.exec(new TextDecoder().decode(data))?.[1] : undefined;
  return { name, data, srs: (named === undefined ? undefined : artefacts.get(named)) ?? null };
}
