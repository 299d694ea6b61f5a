import { useEffect, useRef, useState } from "preact/hooks";
import { type Told, type Tree, treesOf } from "../desk/lineage";
import { documentOf, type State } from "../desk/state";
import { type Running, verify } from "../desk/verifying";
import type { Found } from "../desk/messages";
import type { Step } from "../verify";
import { RexisError } from "../verify/errors";
import { LineageGraph } from "./LineageGraph";
import { LineageList } from "./LineageList";
import { usable } from "./Settings";
import { markOf, StatusMark } from "./StatusMark";
import { Steps } from "./Steps";

export function LineagePlace({ state }: { state: State }) {
  const { certificates } = state;
  const told = certificates.flatMap(({ name, found }): Told[] => (found?.facts ? [{ name, facts: found.facts, result: found.result }] : []));
  const roots = rootsOf(told);
  return (
    <>
      <h1>Lineage</h1>
      <p class="lead">
        Where models come from: base model, training, trained model, evaluations, joined from all certificates that you dropped. What is drawn is what they say; the mark
        on each is its own verdict.
      </p>
      {told.length === 0 && (
        <section class="panel empty">
          <h2>Nothing to draw yet</h2>
          <p>Drop certificates of trainings and evaluations anywhere on this page, several at once. They are verified, and joined by the models’ digests.</p>
        </section>
      )}
      {typeof roots === "string" && <p class="warning">{roots}</p>}
      {typeof roots !== "string" && told.length > 0 && (
        <section class="panel">
          {new Set(told.map(({ facts }) => facts.log.toLowerCase() + facts.chainId)).size > 1 && (
            <p class="warning">These certificates are of different deployments: that they belong together, no log says.</p>
          )}
          {roots.length > 1 && <p class="note">{roots.length} models here have no training that made them: they are not connected.</p>}
          <LineageGraph roots={roots} />
          <h2>The same as a list</h2>
          <LineageList roots={roots} />
        </section>
      )}
      {told.length > 1 && <Together state={state} />}
    </>
  );
}

function rootsOf(told: Told[]): Tree[] | string {
  try {
    return treesOf(told);
  } catch (error) {
    if (error instanceof RexisError) return error.message;
    throw error;
  }
}

/** Step 27: that all lead back to one base model, without a gap. */
function Together({ state: { certificates, artefacts, choices } }: { state: State }) {
  const [steps, setSteps] = useState<Step[]>([]);
  const [says, setSays] = useState<"running" | Found | string | null>(null);
  const running = useRef<Running | null>(null);
  useEffect(() => () => running.current?.cancel(), []);

  const start = (): void => {
    setSteps([]);
    setSays("running");
    const documents = [...certificates].reverse().map((each) => documentOf(each, artefacts));
    running.current = verify({ documents, choices }, (more) => setSteps((before) => [...before, ...more]));
    running.current.found.then(
      (found) => {
        setSteps(found.steps);
        setSays(found);
      },
      (error: Error) => setSays(`The verification did not come to its end: ${error.message}`),
    );
  };

  const found = says !== null && typeof says === "object" ? says : null;
  return (
    <section class="panel">
      <h2>Together</h2>
      <p>All certificates are verified again, and then that they are of one deployment and lead back to one base model, without a gap. A pinned model is that base model.</p>
      <button type="button" class="primary" disabled={says === "running" || !usable(choices)} onClick={start}>
        Verify the lineage
      </button>
      <p role="status" class="opinion-result">
        {says === "running" && "Verifying…"}
        {typeof says === "string" && says !== "running" && says}
        {found && (
          <>
            <StatusMark status={markOf(found.result)} silent />
            <strong>{found.result}</strong>
          </>
        )}
      </p>
      <Steps steps={steps} running={says === "running"} />
    </section>
  );
}
