/** What each tier and rung guarantees, and what not: sections of `docs/threat-model.md`, in its words. */

import found from "virtual:claims";

export interface Inline {
  kind: "plain" | "strong" | "em" | "code";
  text: string;
}

export interface Item {
  text: Inline[];
  items: Item[];
}

export type Block = { kind: "text"; text: Inline[] } | { kind: "list"; items: Item[] };

export interface Section {
  title: Inline[];
  blocks: Block[];
}

export const CLAIMS: Readonly<Record<string, Section>> = found;
