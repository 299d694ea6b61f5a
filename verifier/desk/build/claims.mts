import { readFileSync } from "node:fs";
import type { Plugin } from "vite";
import type { Block, Inline, Item, Section } from "../src/desk/claims";

const MODULE = "virtual:claims";
/** Headings of `docs/threat-model.md` that the page shows, by the names that the page knows them under. */
const SHOWN: Record<string, string> = {
  commit: "Tier `commit`",
  sampled: "Tier `sampled`",
  zk: "Tier `zk`",
  "training-commit": "Training, tier `commit`",
  "training-sampled": "Training, tier `sampled`",
  segments: "Circuits of several segments",
  "ee-private-weights": "Rung `ee-private-weights`",
  "zk-onsite": "Rung `zk-onsite`",
  validators: "Validators (`validators: n` in the policy, `--quorum` for the auditor)",
  none: "What no tier claims",
  offline: "Offline",
  ee: "Equivariant Encryption is keyed obfuscation",
  development: "Development parameters",
};

/** `virtual:claims`: sections of the threat model, read as the page is built, so that there is one wording. */
export function claims(path: string): Plugin {
  return {
    name: "claims",
    resolveId: (id) => (id === MODULE ? `\0${MODULE}` : undefined),
    load(id) {
      if (id !== `\0${MODULE}`) return undefined;
      this.addWatchFile(path);
      return `export default ${JSON.stringify(sections(readFileSync(path, "utf8")))}`;
    },
  };
}

/** The sections that the page shows; throws if the document has lost one. */
export function sections(markdown: string): Record<string, Section> {
  const found: Record<string, Section> = {};
  for (const [name, heading] of Object.entries(SHOWN)) {
    const lines = markdown.split("\n");
    const start = lines.findIndex((line) => /^#{2,3} /.test(line) && line.replace(/^#+ /, "") === heading);
    if (start < 0) throw new Error(`the threat model has no section "${heading}" any more`);
    const length = lines.slice(start + 1).findIndex((line) => /^#{1,3} /.test(line));
    const body = lines.slice(start + 1, length < 0 ? undefined : start + 1 + length);
    found[name] = { title: inlines(heading), blocks: blocks(body) };
  }
  return found;
}

/** Paragraphs and lists, of which an item may hold a list. Nothing else stands in these sections. */
function blocks(lines: string[]): Block[] {
  const found: Block[] = [];
  let paragraph: string[] = [];
  const end = (): void => {
    if (paragraph.length) found.push({ kind: "text", text: inlines(paragraph.join(" ")) });
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (/^\s*\|/.test(line)) throw new Error(`a table in a section that the page shows: ${line}`);
    if (/^\s*(- |\d+\. )/.test(line)) {
      end();
      const from = at;
      while (at < lines.length && (lines[at] ?? "").trim()) at++;
      found.push({ kind: "list", items: items(lines.slice(from, at)) });
    } else if (line.trim()) paragraph.push(line.trim());
    else end();
  }
  end();
  return found;
}

function items(lines: string[]): Item[] {
  const indent = /^\s*/.exec(lines[0] ?? "")?.[0].length ?? 0;
  const groups: string[][] = [];
  for (const line of lines) {
    if (new RegExp(`^\\s{${indent}}(- |\\d+\\. )`).test(line)) groups.push([line.replace(/^\s*(- |\d+\. )/, "")]);
    else groups.at(-1)?.push(line);
  }
  return groups.map((group) => {
    const inner = group.findIndex((line, at) => at > 0 && /^\s*(- |\d+\. )/.test(line));
    const text = group.slice(0, inner < 0 ? undefined : inner).map((line) => line.trim());
    return { text: inlines(text.join(" ")), items: inner < 0 ? [] : items(group.slice(inner)) };
  });
}

const INLINE = /\*\*(.+?)\*\*|`([^`]+)`|\*([^*\s][^*]*)\*|\[([^\]]+)\]\([^)]*\)/g;

/** Bold, code and emphasis; of a link its text, since the page stands alone. */
function inlines(text: string): Inline[] {
  const found: Inline[] = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > last) found.push({ kind: "plain", text: text.slice(last, match.index) });
    const [whole, bold, code, emphasis, link] = match;
    if (bold !== undefined) found.push({ kind: "strong", text: bold });
    else if (code !== undefined) found.push({ kind: "code", text: code });
    else if (emphasis !== undefined) found.push({ kind: "em", text: emphasis });
    else found.push({ kind: "plain", text: link ?? "" });
    last = match.index + whole.length;
  }
  if (last < text.length) found.push({ kind: "plain", text: text.slice(last) });
  return found;
}
