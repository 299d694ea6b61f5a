export interface Bar {
  label: string;
  value: number;
  /** The value for people. */
  text: string;
}

const ROW = 26;
const LABEL = 190;
const WIDTH = 640;
const VALUE = 90;

/** Horizontal bars on a logarithmic scale: what is measured here spans microseconds to minutes. */
export function BarChart({ name, bars }: { name: string; bars: Bar[] }) {
  const positive = bars.map(({ value }) => value).filter((value) => value > 0);
  if (positive.length === 0) return null;
  const low = Math.floor(Math.log10(Math.min(...positive)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive))));
  const room = WIDTH - LABEL - VALUE;
  const length = (value: number): number => (value <= 0 ? 0 : (room * (Math.log10(value) - low)) / (high - low));
  const height = bars.length * ROW + 4;
  const ticks = Array.from({ length: high - low + 1 }, (_, at) => LABEL + (room * at) / (high - low));
  return (
    <figure class="chart">
      <figcaption>{name}</figcaption>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Plot: ${name}`}>
        <svg viewBox={`0 0 ${WIDTH} ${height}`} width={WIDTH} height={height} role="img" aria-label={`${name}: ${bars.map(({ label, text }) => `${label} ${text}`).join("; ")}`}>
          {ticks.map((x) => (
            <line key={x} class="tick" x1={x} x2={x} y1="0" y2={height} />
          ))}
          {bars.map(({ label, value, text }, at) => (
            <g key={at} transform={`translate(0 ${at * ROW})`}>
              <text x={LABEL - 8} y="18" text-anchor="end">
                {label}
              </text>
              <rect class="bar" x={LABEL} y="5" width={Math.max(2, length(value))} height={ROW - 9} rx="2" />
              <text class="bar-value" x={LABEL + Math.max(2, length(value)) + 7} y="18">
                {text}
              </text>
            </g>
          ))}
        </svg>
      </div>
    </figure>
  );
}
