import type { BenchReport } from "../desk/bench";
import { bytes, seconds } from "../desk/units";
import { BarChart } from "./BarChart";
import { Table } from "./Table";
import { Terms } from "./Terms";

/** A report of `rexis bench`: times a record on a logarithmic scale, and the figures behind them. */
export function Benchmark({ report }: { report: BenchReport }) {
  const wrong = report.checks.filter(({ outcome }) => outcome === "failed");
  const tiers = report.models.flatMap((model) => model.tiers.map((tier) => ({ model, tier })));
  const circuits = report.models.flatMap(({ name, circuit }) => (circuit ? [{ name, circuit }] : []));
  return (
    <section class="panel">
      <h2>Benchmark: {report.name}</h2>
      {report.smoke && <p class="warning">A smoke run: it looks for wrong results, and its times mean little.</p>}
      {wrong.length > 0 && <p class="warning">{wrong.length} results were wrong: {wrong.map(({ about, name }) => `${about}, ${name}`).join("; ")}.</p>}
      <Terms
        of={[
          ["Machine", `${report.processor}, ${report.cores} cores, ${bytes(report.memoryBytes)} of memory`],
          ["Load before", `${report.loadBefore.toFixed(1)} processes: what else ran makes times longer`],
          ["Run", `${report.began}, ${seconds(report.seconds)}`],
          ["Again by", <code>{report.command}</code>],
          ["Results", `${report.checks.filter(({ outcome }) => outcome === "ok").length} compared and right, ${wrong.length} wrong`],
        ]}
      />
      <BarChart
        name="Worker’s and checker’s time beyond inference, a record (logarithmic)"
        bars={tiers.map(({ model, tier }) => {
          const value = (tier.overhead + tier.verify) / tier.records;
          return { label: `${model.name}, ${tier.label}`, value, text: seconds(value) };
        })}
      />
      <Table
        name="Tiers"
        head={["Model and tier", "Records", "Inference", "Worker, beyond", "Checker", "Evidence", "Finds 5 % altered", "Basis"]}
        rows={tiers.map(({ model, tier }) => [
          `${model.name}, ${tier.label}`,
          tier.records,
          seconds(tier.inference),
          seconds(tier.overhead),
          seconds(tier.verify),
          bytes(tier.evidenceBytes),
          `${(tier.caught * 100).toFixed(0)} %`,
          tier.basis,
        ])}
      />
      <BarChart name="One proof (logarithmic)" bars={circuits.map(({ name, circuit }) => ({ label: name, value: circuit.prove, text: seconds(circuit.prove) }))} />
      <Table
        name="Circuits"
        head={["Model", "Rows", "Segments", "Set-up", "Prove", "Verify", "Proof", "Gas", "Same decision"]}
        rows={circuits.map(({ name, circuit }) => [
          name,
          `2^${circuit.logrows}`,
          circuit.segments,
          seconds(circuit.setup),
          seconds(circuit.prove),
          seconds(circuit.verify),
          bytes(circuit.proofBytes),
          circuit.evmGas ?? "–",
          `${(circuit.agreement * 100).toFixed(1)} %`,
        ])}
      />
      {report.anchors.length > 0 && (
        <Table name="Anchors" head={["Statements in a batch", "Gas a statement"]} rows={report.anchors.map(({ batch, gasPerTask }) => [`${batch}`, Math.round(gasPerTask)])} />
      )}
    </section>
  );
}
