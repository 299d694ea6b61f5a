/**
 * Step 27: several certificates together, base model → trainings → evaluations, without a gap. As
 * `verifier/lineage.py`.
 */

import { type Certificate, isTraining, placesOf, type TrainingCertificate } from "./certificate";
import type { Digest } from "./bytes";
import { RexisError } from "./errors";
import { type Ends, lineages, type ModelLineage } from "./modelTree";

export interface Named {
  name: string;
  certificate: Certificate;
}

/** What the last checkpoint says that a training made. */
export function trainedModel(training: TrainingCertificate): Digest {
  return training.evidence.transcript[training.evidence.transcript.length - 1]?.checkpoint.modelDigest ?? "";
}

const endsOf = (certificate: Certificate): Ends => ({
  model: certificate.request.modelDigest,
  made: isTraining(certificate) ? trainedModel(certificate) : null,
});

/** All are of one deployment, and lead back to one base model; each way from it to what was made of it. */
export function checkLineage(read: readonly Named[], base: Digest | undefined): string {
  const [first] = read;
  if (!first) throw new RexisError("there are no certificates");
  for (const { name, certificate } of read) {
    const [here, there] = [certificate.domain, first.certificate.domain];
    if (here.chainId !== there.chainId || here.verifyingContract !== there.verifyingContract) {
      throw new RexisError(`${name} is of another deployment than ${first.name}`, { field: "domain" });
    }
  }
  const roots = lineages(
    read.map(({ certificate }) => certificate),
    endsOf,
  );
  const root = roots.find((each) => each.trainings.length > 0) ?? roots[0];
  const loose = roots.find((each) => each !== root);
  if (!root) throw new RexisError("there are no certificates");
  if (loose) {
    const names = read
      .filter(({ certificate }) => certificate.request.modelDigest === loose.digest)
      .map(({ name }) => name);
    throw new RexisError(
      `the chain breaks at ${names.join(", ")}: no training here made its model ${loose.digest} out of ${root.digest}`,
      { field: "request.modelDigest" },
    );
  }
  if (base !== undefined && root.digest !== base) {
    throw new RexisError(`all came from model ${root.digest}, you pinned ${base}`, { field: "request.modelDigest" });
  }
  return paths(root).join("; ") || `model ${root.digest}, not trained: ${evaluated(root)}`;
}

function paths(model: ModelLineage<Certificate>): string[] {
  return model.trainings.flatMap(({ training, made }) => [
    `model ${model.digest} → dataset ${training.request.inputRoot} → transcript ` +
      `${placesOf(training)[0]?.statement.outputRoot} → model ${made.digest}: ${evaluated(made)}`,
    ...paths(made),
  ]);
}

function evaluated(model: ModelLineage<unknown>): string {
  return `${model.evaluations.length} evaluation${model.evaluations.length === 1 ? "" : "s"}`;
}
