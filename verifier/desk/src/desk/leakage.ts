/** Leakage cards and reports of attacks (`rexis/ee/card.py`, `rexis/ee/attack_card.py`). */

import { Field } from "./reading";

export interface LeakageCard {
  name: string;
  modelDigest: string;
  file: string;
  rung: string;
  sides: Side[];
  visible: string[];
  axes: { where: string; size: number; group: string; perPlace: number; bits: number; parameters: number }[];
  clear: { where: string; size: number; reason: string; allowedByOwner: boolean }[];
  attacks: Attack[];
  training: { optimiser: string; visible: string[] } | null;
  maxCondition: number | null;
  distances: { constant: string; distance: number }[];
  smallestDistance: number | null;
}

export interface Side {
  what: string;
  element: string;
  shape: string;
  axes: string[];
  values: string;
  offset: boolean;
}

/** One attack: what it got, between what guessing gets (`floor`) and what it gets without EE (`ceiling`). */
export interface Attack {
  name: string;
  score: number | null;
  floor: number | null;
  ceiling: number | null;
  verdict: string;
  says: string;
}

export interface AttackReport {
  name: string;
  private: number;
  public: number;
  base: boolean;
  attacks: Attack[];
}

const number = (field: Field): number => field.number();
const text = (field: Field): string => field.text();

export function readCard(document: unknown, name: string): LeakageCard {
  const field = new Field(document, name);
  return {
    name,
    modelDigest: field.get("modelDigest").text(),
    file: field.get("file").text(),
    rung: field.get("rung").text(),
    sides: [...field.get("inputs").list((each) => readSide(each, "input")), readSide(field.get("output"), "output")],
    visible: field.get("visible").list(text),
    axes: field.get("axes").list((each) => ({
      where: each.get("where").list(text).join(", "),
      size: each.get("size").number(),
      group: each.get("group").text(),
      perPlace: each.get("perPlace").number(),
      bits: each.get("bits").number(),
      parameters: each.get("parameters").number(),
    })),
    clear: field.get("clear").list((each) => ({
      where: each.get("where").text(),
      size: each.get("size").number(),
      reason: each.get("reason").text(),
      allowedByOwner: each.get("allowedByOwner").flag(),
    })),
    attacks: field.get("attacks").maybe((each) => each.list(readAttack)) ?? [],
    training: field.get("training").maybe((each) => ({ optimiser: each.get("optimiser").text(), visible: each.get("visible").list(text) })),
    maxCondition: field.get("maxCondition").maybe(number),
    distances: field.get("distances").list((each) => ({ constant: each.get("constant").text(), distance: each.get("distance").number() })),
    smallestDistance: field.get("smallestDistance").maybe(number),
  };
}

export function readAttacks(document: unknown, name: string): AttackReport {
  const field = new Field(document, name);
  return {
    name,
    private: field.get("private").number(),
    public: field.get("public").number(),
    base: field.get("base").flag(),
    attacks: field.get("attacks").list(readAttack),
  };
}

function readSide(field: Field, what: string): Side {
  return {
    what: `${what} ${field.get("name").text()}`,
    element: field.get("element").text(),
    shape: field.get("shape").list(number).join("×"),
    axes: field.get("axes").list(text),
    values: field.get("values").text(),
    offset: field.get("offset").flag(),
  };
}

function readAttack(field: Field): Attack {
  const input = field.get("input").maybe(text);
  return {
    name: field.get("name").text().replaceAll("_", " ") + (input === null ? "" : ` on ${input}`),
    score: field.get("score").maybe(number),
    floor: field.get("floor").maybe(number),
    ceiling: field.get("ceiling").maybe(number),
    verdict: field.get("verdict").text(),
    says: field.get("says").text(),
  };
}
