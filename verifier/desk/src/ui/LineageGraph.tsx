import { short } from "../desk/digest";
import { type Box, drawingOf, type Edge } from "../desk/drawing";
import type { Tree } from "../desk/lineage";
import { markOf, StatusMark } from "./StatusMark";

const WIDTH = 190;
const HEIGHT = 50;
const COLUMN = 420;
const ROW = 74;
const EDGE = 1;

const left = ({ column }: Box): number => EDGE + column * COLUMN;
const middle = ({ row }: Box): number => EDGE + row * ROW + HEIGHT / 2;
const MARK = 15;
const BEND = 40;

/** The lineage as a drawing. The list beside it says the same. */
export function LineageGraph({ roots }: { roots: Tree[] }) {
  const { boxes, edges, columns, rows } = drawingOf(roots, short);
  const width = (columns - 1) * COLUMN + WIDTH + 2 * EDGE;
  const height = (rows - 1) * ROW + HEIGHT + 2 * EDGE;
  return (
    <figure class="graph">
      <div class="scroll" tabIndex={0} role="region" aria-label="Drawing of the lineage, scrolls sideways">
        <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label="Models, and what certificates say was done with them. The list below says the same.">
          {edges.map((edge) => (
            <EdgeOf key={edge.key} edge={edge} />
          ))}
          {boxes.map((box) => (
            <BoxOf key={box.key} box={box} />
          ))}
        </svg>
      </div>
    </figure>
  );
}

function EdgeOf({ edge: { from, to, text, result } }: { edge: Edge }) {
  const [x1, y1, x2, y2] = [left(from) + WIDTH, middle(from), left(to), middle(to)];
  return (
    <g class={`edge edge-${(result ?? "").replace(" ", "-")}`}>
      <path d={`M${x1} ${y1} C${x1 + BEND} ${y1} ${x1} ${y2} ${x1 + BEND} ${y2} H${x2 - 7}`} />
      {text && result && <StatusMark status={markOf(result)} silent at={{ x: x1 + BEND, y: y2 - MARK / 2, size: MARK }} />}
      <path class="tip" d={`M${x2 - 8} ${y2 - 4} L${x2} ${y2} L${x2 - 8} ${y2 + 4} Z`} />
      {text && (
        <text x={x2 - 12} y={y2 - 8} text-anchor="end">
          {text}
        </text>
      )}
    </g>
  );
}

function BoxOf({ box }: { box: Box }) {
  const y = middle(box) - HEIGHT / 2;
  return (
    <g class={`box box-${box.kind} box-${(box.result ?? "none").replace(" ", "-")}`}>
      <rect x={left(box)} y={y} width={WIDTH} height={HEIGHT} rx={box.kind === "model" ? 4 : HEIGHT / 2} />
      {box.result && <StatusMark status={markOf(box.result)} silent at={{ x: left(box) + 16, y: middle(box) - MARK / 2, size: MARK }} />}
      <text class="box-title" x={left(box) + (box.result ? 42 : 18)} y={y + 20}>
        {box.title}
      </text>
      <text class="box-text" x={left(box) + (box.result ? 42 : 18)} y={y + 38}>
        {box.text}
      </text>
    </g>
  );
}
