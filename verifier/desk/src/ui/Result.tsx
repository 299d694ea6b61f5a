import type { Facts } from "../desk/facts";
import type { Certificate } from "../desk/state";
import { served } from "../desk/server";
import { AboutJob } from "./AboutJob";
import { Claim } from "./Claim";
import { OnChain } from "./OnChain";
import { OpinionCard } from "./OpinionCard";
import { Said } from "./Said";
import { Steps } from "./Steps";
import { Verdict } from "./Verdict";

interface Props {
  certificate: Certificate;
  /** The one that was given last: its steps are open. */
  newest: boolean;
  outdated: boolean;
  again(): void;
  remove(): void;
  stop(): void;
  allowDevelopment(): void;
  ask(): void;
}

/** One certificate: verdict, steps, and what it is about. */
export function Result({ certificate, newest, outdated, again, remove, stop, allowDevelopment, ask }: Props) {
  const { id, name, progress, steps, found, seconds, choices } = certificate;
  const title = `certificate-${id}`;
  const facts = found?.facts ?? null;
  const running = progress === "running";
  const judged = steps.some((step) => step.number === 28);
  return (
    <article class="panel result" aria-labelledby={title} data-result={found?.result ?? progress}>
      <header class="result-head">
        <h2 id={title}>{name}</h2>
        <div class="actions">
          {running && (
            <button type="button" onClick={stop}>
              Stop
            </button>
          )}
          {!running && (
            <button type="button" class={outdated ? "primary" : ""} onClick={again}>
              Verify again
            </button>
          )}
          <button type="button" onClick={remove} aria-label={`Remove ${name}`}>
            Remove
          </button>
        </div>
      </header>
      <Verdict certificate={certificate} />
      {outdated && <p class="warning">You changed what you expect or allow since: verify again.</p>}
      {found?.steps.some((step) => step.number === 4 && step.status === "failed") && (choices?.allowDevelopmentChain === false || choices?.allowDevelopmentSrs === false) && (
        <p class="warning">
          For a demonstration you may let development parameters pass; for anything else, do not.{" "}
          <button type="button" onClick={allowDevelopment}>
            Let them pass, and verify again
          </button>
        </p>
      )}
      {found && found.shows.length > 0 && (
        <section>
          <h3>What it shows</h3>
          <ul class="shows">
            {found.shows.map((sentence, at) => (
              <li key={at}>
                <Said text={sentence} />
              </li>
            ))}
          </ul>
        </section>
      )}
      <details class="more" open={newest}>
        <summary>Steps</summary>
        <Steps steps={steps} running={running} />
        {progress === "done" && <p class="note">{steps.length} steps in {seconds.toFixed(seconds < 10 ? 1 : 0)} s, in this browser.</p>}
      </details>
      {facts && (
        <>
          <details class="more">
            <summary>The job</summary>
            <AboutJob facts={facts} digest={certificate.digest} />
          </details>
          <details class="more">
            <summary>On chain</summary>
            <OnChain facts={facts} />
          </details>
          <details class="more">
            <summary>What this tier guarantees, and what not</summary>
            {claimsOf(facts, choices?.node === null, judged).map((claim) => (
              <Claim key={claim} name={claim} />
            ))}
          </details>
        </>
      )}
      {served() && progress === "done" && <OpinionCard certificate={certificate} ask={ask} />}
    </article>
  );
}

/** The sections of the threat model that are about this certificate. */
function claimsOf(facts: Facts, offline: boolean, judged: boolean): string[] {
  return [
    facts.kind === "training" ? `training-${facts.tier}` : facts.tier,
    ...(facts.segmented ? ["segments"] : []),
    ...(facts.rung === "ee-outsourced" ? [] : [facts.rung]),
    ...(judged ? ["validators"] : []),
    ...(offline ? ["offline"] : []),
    ...(facts.development.length > 0 ? ["development"] : []),
    "none",
  ];
}
