import type { Tree, Told } from "../desk/lineage";
import { Digest } from "./Digest";
import { markOf, StatusMark } from "./StatusMark";

export function LineageList({ roots }: { roots: Tree[] }) {
  return (
    <ul class="tree">
      {roots.map((root) => (
        <ModelItem key={root.digest} node={root} />
      ))}
    </ul>
  );
}

function ModelItem({ node: { digest: model, evaluations, trainings } }: { node: Tree }) {
  return (
    <li>
      model <Digest value={model} what="the model's digest" />
      <ul>
        {evaluations.map((each, at) => (
          <li key={at}>
            <Mark of={each} /> evaluation, tier {each.facts.tier}: {each.facts.recordCount} records ({each.name})
          </li>
        ))}
        {trainings.map(({ training: by, made }, at) => (
          <li key={at}>
            <Mark of={by} /> training, tier {by.facts.tier}: {by.facts.training!.steps} steps of {by.facts.training!.batch} with {by.facts.training!.optimiser}, on {by.facts.inputSize}{" "}
            records ({by.name}), made
            <ul>
              <ModelItem node={made} />
            </ul>
          </li>
        ))}
      </ul>
    </li>
  );
}

function Mark({ of }: { of: Told }) {
  return (
    <>
      <StatusMark status={markOf(of.result)} silent /> <strong>{of.result}</strong>
    </>
  );
}
