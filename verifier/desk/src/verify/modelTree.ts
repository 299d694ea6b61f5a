/** Which model came from which, as `rexis/lineage.py`. */

import type { Digest } from "./bytes";
import { RexisError } from "./errors";

/** A model, what was found of it, and what was trained from it, as told by certificates, or by what stands for them. */
export interface ModelLineage<T> {
  digest: Digest;
  evaluations: readonly T[];
  trainings: readonly { training: T; made: ModelLineage<T> }[];
}

/** The model that a certificate is about, and the one that it made; null of an evaluation. */
export interface Ends {
  model: Digest;
  made: Digest | null;
}

/** One tree for each model that none of these trainings made. */
export function lineages<T>(told: readonly T[], endsOf: (one: T) => Ends): ModelLineage<T>[] {
  const all = told.map((one) => ({ one, ...endsOf(one) }));

  const grow = (model: Digest, above: readonly Digest[]): ModelLineage<T> => {
    if (above.includes(model)) throw circular(model);
    const here = all.filter((each) => each.model === model);
    return {
      digest: model,
      evaluations: here.filter(({ made }) => made === null).map(({ one }) => one),
      trainings: here.flatMap(({ one, made }) => (made === null ? [] : [{ training: one, made: grow(made, [...above, model]) }])),
    };
  };

  const made = new Set(all.map((each) => each.made));
  const models = [...new Set(all.map(({ model }) => model))].sort();
  const roots = models.filter((model) => !made.has(model)).map((model) => grow(model, []));
  const reached = new Set(roots.flatMap(modelsOf));
  const lost = models.find((model) => !reached.has(model));
  if (lost !== undefined) throw circular(lost);
  return roots;
}

function circular(model: Digest): RexisError {
  return new RexisError(`model ${model} is said to be trained from what was trained from it`);
}

function modelsOf(root: ModelLineage<unknown>): Digest[] {
  return [root.digest, ...root.trainings.flatMap(({ made }) => modelsOf(made))];
}
