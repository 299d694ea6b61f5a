import type { Attack } from "../desk/leakage";

/** What attacks got, between guessing and what they get without EE. Lower bounds: a better attack may get more. */
export function AttackTable({ name, attacks }: { name: string; attacks: Attack[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`Attacks of ${name}, scrolls sideways`}>
      <table>
        <caption>Lower bounds: a better attack may get more.</caption>
        <thead>
          <tr>
            <th scope="col">Attack</th>
            <th scope="col">From guessing to without EE</th>
            <th scope="col">Verdict</th>
            <th scope="col">In words</th>
          </tr>
        </thead>
        <tbody>
          {attacks.map((attack, at) => (
            <tr key={at}>
              <th scope="row">{attack.name}</th>
              <td>
                <Meter attack={attack} />
              </td>
              <td>{attack.verdict}</td>
              <td>{attack.says}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Meter({ attack: { score, floor, ceiling } }: { attack: Attack }) {
  if (score === null || floor === null || ceiling === null) return <>not run</>;
  const share = ceiling === floor ? 0 : Math.min(1, Math.max(0, (score - floor) / (ceiling - floor)));
  return (
    <span class="meter">
      <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        <rect class="meter-all" width="100" height="8" rx="2" />
        <rect class="meter-part" width={share * 100} height="8" rx="2" />
      </svg>
      <span>
        {score.toFixed(2)} ({floor.toFixed(2)}–{ceiling.toFixed(2)})
      </span>
    </span>
  );
}
