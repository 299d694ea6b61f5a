import { Claim } from "./Claim";

const TIERS = ["commit", "sampled", "zk", "segments"];
const TRAINING = ["training-commit", "training-sampled"];
const RUNGS = ["ee-private-weights", "zk-onsite", "ee"];
const VALIDATORS = ["validators"];
const ALWAYS = ["none", "offline", "development"];

export function Guarantees() {
  return (
    <>
      <h1>What is guaranteed, and what is not</h1>
      <p class="lead">In the words of the threat model (docs/threat-model.md), from which this page was built.</p>
      <Group title="Evaluations" names={TIERS} />
      <Group title="Trainings" names={TRAINING} />
      <Group title="Privacy" names={RUNGS} />
      <Group title="Validators" names={VALIDATORS} />
      <Group title="Always" names={ALWAYS} />
    </>
  );
}

function Group({ title, names }: { title: string; names: string[] }) {
  return (
    <section class="panel">
      <h2>{title}</h2>
      {names.map((name) => (
        <Claim key={name} name={name} />
      ))}
    </section>
  );
}
