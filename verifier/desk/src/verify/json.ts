/**
 * JSON, read strictly and written canonically, as `rexis/protocol/parsing.py` does: a document has one meaning and one
 * form. `JSON.parse` would lose what must be refused: keys that stand twice, and numbers that are rounded.
 */

import { RexisError } from "./errors";

export type Json = null | boolean | number | string | Float | readonly Json[] | JsonObject;
export type JsonObject = { readonly [key: string]: Json };

/** A number that is not an integer, by its value; ezkl's settings hold some. */
export class Float {
  constructor(readonly value: number) {}
}

const MAX_DEPTH = 32;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const LITERALS = new Map<string, Json>([
  ["true", true],
  ["false", false],
  ["null", null],
]);
const NOT_FINITE = ["NaN", "Infinity", "-Infinity"];
const ESCAPES: Record<string, string> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
const WRITTEN: Record<string, string> = {
  '"': '\\"',
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** UTF-8 text; anything else is refused. */
export function decode(data: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw new RexisError("document is not UTF-8");
  }
}

/**
 * Decode JSON, refusing what has more than one reading: a key that stands twice, NaN, an integer beyond 2^53-1, nesting
 * beyond 32 levels; and unless `floats`, every number that is not an integer.
 */
export function parseJson(text: string, options: { floats?: boolean } = {}): Json {
  let at = 0;

  function fail(what: string): never {
    const before = text.slice(0, at).split("\n");
    const column = (before[before.length - 1]?.length ?? 0) + 1;
    throw new RexisError(`not JSON: ${what} at line ${before.length}, column ${column}`, {
      hint: "is the file truncated?",
    });
  }

  function take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  }

  function eat(character: string): boolean {
    take(SPACE);
    if (text[at] !== character) return false;
    at += 1;
    take(SPACE);
    return true;
  }

  function value(depth: number): Json {
    take(SPACE);
    const first = text[at];
    if (first === "{" || first === "[") {
      if (depth > MAX_DEPTH) throw new RexisError(`document is nested deeper than ${MAX_DEPTH} levels`);
      return first === "{" ? object(depth) : array(depth);
    }
    if (first === '"') return string();
    for (const [word, meant] of LITERALS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meant;
      }
    }
    const name = NOT_FINITE.find((word) => text.startsWith(word, at));
    if (name) throw notAnInteger(name);
    return number();
  }

  function object(depth: number): JsonObject {
    const found = Object.create(null) as Record<string, Json>;
    eat("{");
    if (eat("}")) return found;
    do {
      if (text[at] !== '"') fail("expecting a name in double quotes");
      const key = string();
      if (!eat(":")) fail("expecting ':'");
      const item = value(depth + 1);
      if (key in found) throw new RexisError(`duplicate key '${key}'`);
      found[key] = item;
    } while (eat(","));
    if (!closes("}")) fail("expecting ',' or '}'");
    return found;
  }

  function array(depth: number): Json[] {
    const found: Json[] = [];
    eat("[");
    if (eat("]")) return found;
    do found.push(value(depth + 1));
    while (eat(","));
    if (!closes("]")) fail("expecting ',' or ']'");
    return found;
  }

  function closes(character: string): boolean {
    if (text[at] !== character) return false;
    at += 1;
    return true;
  }

  function string(): string {
    at += 1;
    const parts: string[] = [];
    for (;;) {
      parts.push(take(PLAIN)?.[0] ?? "");
      const end = text[at];
      if (end === '"') {
        at += 1;
        return parts.join("");
      }
      if (end !== "\\") fail(end === undefined ? "unterminated string" : "control character in a string");
      const kind = text[at + 1] ?? "";
      const code = text.slice(at + 2, at + 6);
      if (kind === "u" && /^[0-9a-fA-F]{4}$/.test(code)) {
        parts.push(String.fromCharCode(parseInt(code, 16)));
        at += 6;
      } else {
        const meant = ESCAPES[kind];
        if (meant === undefined) fail("bad escape in a string");
        parts.push(meant);
        at += 2;
      }
    }
  }

  function number(): Json {
    const found = take(NUMBER);
    if (!found) fail("expecting a value");
    const [token, fraction, exponent] = found;
    if (fraction !== undefined || exponent !== undefined) {
      if (!options.floats) throw notAnInteger(token);
      const meant = Number(token);
      if (!Number.isFinite(meant) || floatText(meant) !== token)
        throw new RexisError(`number '${token}' is not canonical`);
      return new Float(meant);
    }
    const meant = Number(token);
    if (!Number.isSafeInteger(meant)) throw new RexisError(`integer ${token.slice(0, 24)} is beyond 2^53-1`);
    if (String(meant) !== token) throw new RexisError(`number '${token}' is not canonical`);
    return meant;
  }

  const found = value(1);
  take(SPACE);
  if (at !== text.length) fail("extra data");
  return found;
}

function notAnInteger(token: string): RexisError {
  return new RexisError(`number '${token}' is not an integer`, { hint: "rexis documents hold integers only" });
}

/**
 * Sorted keys, no white space, ASCII: the form that digests are taken over, without the newline at a document's end.
 */
export function canonical(value: Json): string {
  if (value === null || typeof value === "boolean" || typeof value === "number") return String(value);
  if (typeof value === "string") return quoted(value);
  if (value instanceof Float) return floatText(value.value);
  if (isList(value)) return `[${value.map(canonical).join(",")}]`;
  const keys = Object.keys(value).sort(byCodePoints);
  return `{${keys.map((key) => `${quoted(key)}:${canonical(value[key] ?? null)}`).join(",")}}`;
}

/** `Array.isArray` would not tell a read-only list from an object. */
export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** Whether two values have the same canonical form. */
export function same(a: Json, b: Json): boolean {
  return canonical(a) === canonical(b);
}

/** The order in which Python sorts texts; JavaScript's differs beyond the Basic Multilingual Plane. */
export function byCodePoints(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

function quoted(text: string): string {
  const escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return `"${text.replace(/["\\]|[^ -~]/g, (unit) => WRITTEN[unit] ?? escape(unit))}"`;
}

/**
 * A float as Python writes it: the same shortest digits as JavaScript's, with an exponent below 1e-4 and from 1e16 on.
 */
export function floatText(value: number): string {
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const sign = exponent < 0 ? "-" : "+";
    return `${digits}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  if (Object.is(value, -0)) return "-0.0";
  const plain = value.toFixed(Math.max(0, digits.replace(/^-?[0-9]\.?/, "").length - exponent));
  return plain.includes(".") ? plain : `${plain}.0`;
}
