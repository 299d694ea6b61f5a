/** Where the boxes of a lineage stand: models by column from left to right, each thing on a row of its own. */

import type { Told, Tree } from "./lineage";
import type { Result } from "../verify";

export interface Box {
  key: string;
  column: number;
  row: number;
  kind: "model" | "evaluation";
  title: string;
  text: string;
  /** Null for a model: only certificates have verdicts. */
  result: Result | null;
}

export interface Edge {
  key: string;
  from: Box;
  to: Box;
  text: string;
  result: Result | null;
}

export interface Drawing {
  boxes: Box[];
  edges: Edge[];
  columns: number;
  rows: number;
}

export function drawingOf(roots: readonly Tree[], name: (digest: string) => string): Drawing {
  const boxes: Box[] = [];
  const edges: Edge[] = [];
  let row = 0;

  const evaluation = (of: Told, column: number, parent: Box): void => {
    const box: Box = {
      key: `job-${of.facts.jobId}-${of.name}`,
      column,
      row: row++,
      kind: "evaluation",
      title: `evaluation, ${of.facts.tier}`,
      text: `${of.facts.recordCount} records`,
      result: of.result,
    };
    boxes.push(box);
    edges.push({ key: `to-${box.key}`, from: parent, to: box, text: "", result: of.result });
  };

  const model = (node: Tree, column: number): Box => {
    const box: Box = { key: `model-${column}-${node.digest}`, column, row: 0, kind: "model", title: "model", text: name(node.digest), result: null };
    boxes.push(box);
    const first = row;
    for (const each of node.evaluations) evaluation(each, column + 1, box);
    for (const { training: by, made } of node.trainings) {
      const training = by.facts.training!;
      const text = `trained, ${by.facts.tier}: ${training.steps} steps`;
      edges.push({ key: `to-${by.name}-${made.digest}`, from: box, to: model(made, column + 1), text, result: by.result });
    }
    if (row === first) row++;
    box.row = (first + row - 1) / 2;
    return box;
  };

  for (const root of roots) model(root, 0);
  return { boxes, edges, columns: Math.max(0, ...boxes.map(({ column }) => column + 1)), rows: row };
}
