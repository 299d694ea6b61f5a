import type { State } from "../desk/state";
import { AttackTable } from "./AttackTable";
import { Benchmark } from "./Benchmark";
import { DropZone } from "./DropZone";
import { LeakageCardView } from "./LeakageCardView";

/** Reports that other commands wrote. They are shown, not verified: nothing signs them. */
export function ReportsPlace({ state: { bench, card, attacks }, over, onFiles }: { state: State; over: boolean; onFiles(files: File[]): void }) {
  return (
    <>
      <h1>Reports</h1>
      <p class="lead">What a model leaks, what attacks got, and what proofs cost, as their authors measured it. Nothing signs these files: the page shows them, and verifies nothing.</p>
      <DropZone
        over={over}
        onFiles={onFiles}
        lead="Drop a report here"
        note="A leakage card (rexis ee card --out card.json), a report of attacks (rexis ee attack --out attacks.json), or a benchmark (report.json of rexis bench)."
      />
      {card && <LeakageCardView card={card} />}
      {attacks && (
        <section class="panel">
          <h2>Attacks: {attacks.name}</h2>
          <p>
            {attacks.private} records were attacked with {attacks.public} public ones at hand{attacks.base ? ", and a public base model" : ""}.
          </p>
          <AttackTable name={attacks.name} attacks={attacks.attacks} />
        </section>
      )}
      {bench && <Benchmark report={bench} />}
    </>
  );
}
