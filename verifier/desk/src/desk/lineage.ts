/** Where models come from, as certificates say; each certificate's own verdict says whether it is true. */

import type { Result } from "../verify";
import { lineages, type ModelLineage } from "../verify/modelTree";
import type { Facts } from "./facts";

/** A certificate that was dropped, and what came of it. */
export interface Told {
  name: string;
  facts: Facts;
  result: Result;
}

export type Tree = ModelLineage<Told>;

export const treesOf = (told: readonly Told[]): Tree[] =>
  lineages(told, ({ facts }) => ({ model: facts.model, made: facts.training?.made ?? null }));
