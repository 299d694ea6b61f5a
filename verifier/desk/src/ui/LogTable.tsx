import { useState } from "preact/hooks";
import { short } from "../desk/digest";
import type { Row, Sought } from "../desk/log-rows";

const PAGE = 50;

/** The entries; a press on a job, model, worker or dataset shows only its own. */
export function LogTable({ rows, seek }: { rows: Row[]; seek(name: Sought, value: string): void }) {
  const [shown, setShown] = useState(PAGE);
  if (rows.length === 0) return <p class="note">No entries.</p>;
  const cell = (name: Sought, value: string) =>
    value && (
      <button type="button" class="link" title={value} aria-label={`Only ${name} ${value}`} onClick={() => seek(name, value)}>
        <code>{short(value)}</code>
      </button>
    );
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Entries of the log, scrolls sideways">
        <table class="log">
          <caption class="hidden">Entries of the log, newest first</caption>
          <thead>
            <tr>
              <th scope="col">Block</th>
              <th scope="col">What</th>
              <th scope="col">Job</th>
              <th scope="col">Model</th>
              <th scope="col">Worker</th>
              <th scope="col">Dataset</th>
              <th scope="col">Detail</th>
              <th scope="col">Says</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, shown).map((row, at) => (
              <tr key={at}>
                <td class="number">{row.block}</td>
                <th scope="row">{row.what}</th>
                <td>{cell("job", row.job)}</td>
                <td>{cell("model", row.model)}</td>
                <td>{cell("worker", row.worker)}</td>
                <td>{cell("dataset", row.dataset)}</td>
                <td>{row.detail}</td>
                <td>{row.source === "both" ? "certificate and chain" : row.source}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="actions">
        <span class="note">
          {Math.min(shown, rows.length)} of {rows.length} {rows.length === 1 ? "entry" : "entries"}
        </span>
        {rows.length > shown && (
          <button type="button" onClick={() => setShown(shown + PAGE)}>
            Show more
          </button>
        )}
      </p>
    </>
  );
}
