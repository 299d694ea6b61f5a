import { groupsOf, withoutRecords } from "../desk/step-groups";
import type { Step } from "../verify";
import { Said } from "./Said";
import { StatusMark } from "./StatusMark";

/** More than a person reads; the rest is counted. */
const SHOWN = 200;
const FEW = 3;

/** The numbered steps. Those of many tasks, which share a number, are put together. */
export function Steps({ steps, running }: { steps: Step[]; running: boolean }) {
  return (
    <ol class="steps">
      {groupsOf(steps).map((group) => (
        <StepGroup key={group[0]!.number + group[0]!.name} group={group} />
      ))}
      {running && (
        <li class="step step-running">
          <StatusMark status="running" />
          <div>
            <p class="step-name">the next step</p>
          </div>
        </li>
      )}
    </ol>
  );
}

function StepGroup({ group }: { group: Step[] }) {
  if (group.length <= FEW) return group.map((step, at) => <OneStep key={at} step={step} />);
  const worst = group.find(({ status }) => status === "failed") ?? group.find(({ status }) => status === "unchecked") ?? group[0]!;
  return (
    <li class={`step step-${worst.status}`}>
      <StatusMark status={worst.status} />
      <div>
        <details open={worst.status === "failed"}>
          <summary>
            <span class="step-name">
              <b>{worst.number}</b> {withoutRecords(worst.name)}: {group.length} tasks
            </span>
          </summary>
          <ol class="steps">
            {group.slice(0, SHOWN).map((step, at) => (
              <OneStep key={at} step={step} />
            ))}
          </ol>
          {group.length > SHOWN && <p class="note">and {group.length - SHOWN} more, all taken</p>}
        </details>
      </div>
    </li>
  );
}

function OneStep({ step }: { step: Step }) {
  return (
    <li class={`step step-${step.status}`}>
      <StatusMark status={step.status} />
      <div>
        <p class="step-name">
          <b>{step.number}</b> {step.name}
        </p>
        {step.detail && (
          <p class="step-detail">
            <Said text={step.detail} />
          </p>
        )}
        {step.hint && <p class="step-hint">{step.hint}</p>}
      </div>
    </li>
  );
}
