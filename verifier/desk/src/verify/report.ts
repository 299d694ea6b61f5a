/** Steps and verdicts: what was checked, in order, and why something failed. As `verifier/report.py`. */

import type { Certificate } from "./certificate";
import { RexisError, UnavailableError } from "./errors";

/** `unchecked`: a part was missing, so nobody knows. `skipped`: the caller asked not to, or a page cannot. */
export type Status = "ok" | "failed" | "unchecked" | "skipped";

/** One numbered check. Steps of several tasks share a number. */
export interface Step {
  number: number;
  name: string;
  status: Status;
  /** What was found; of a failure the reason. */
  detail: string;
  /** What the reader can do about it. */
  hint?: string;
}

export type Result = "valid" | "not valid" | "undecided";

/** What a whole verification came to. */
export interface Report {
  result: Result;
  steps: Step[];
  /** What passing shows: one sentence a task, for several sampled tasks one more about all. */
  shows: string[];
  /** Null if the document could not be read. */
  kind: "evaluation" | "training" | null;
  /** Null if it could not be read. */
  document: Certificate | null;
}

/** A verification step that did not pass: it ends the verification. */
export class StepFailed extends Error {}

const MAX_DETAIL = 2000;

/** The steps taken so far. */
export class Verdict {
  readonly steps: Step[] = [];
  readonly shows: string[] = [];

  constructor(private readonly onStep?: (step: Step) => void) {}

  add(number: number, name: string, status: Status, detail: string, hint?: string | null): void {
    const step: Step = { number, name, status, detail: printable(detail) };
    if (hint) step.hint = printable(hint);
    this.steps.push(step);
    this.onStep?.(step);
  }

  /**
   * Run one check: it passes with the text that it returns, unless it throws a {@link RexisError}.
   *
   * A failure stops the verification, since later steps would build on what is not true. A missing part makes
   * the step `unchecked`, and verification goes on with `undefined`.
   */
  async step<T>(number: number, name: string, check: () => Passed<T> | Promise<Passed<T>>): Promise<T | undefined> {
    let passed: Passed<T>;
    try {
      passed = await check();
    } catch (error) {
      if (!(error instanceof RexisError)) throw error;
      if (error instanceof UnavailableError) {
        this.add(number, name, "unchecked", error.message, error.hint);
        return undefined;
      }
      this.add(number, name, "failed", (error.field ? `${error.field}: ` : "") + error.message, error.hint);
      throw new StepFailed();
    }
    this.add(number, name, "ok", passed.detail);
    return passed.found;
  }

  get unchecked(): boolean {
    return this.steps.some((step) => step.status === "unchecked");
  }

  /** Not valid if a step failed; undecided if one could not be taken, or none was. */
  get result(): Result {
    if (this.steps.some((step) => step.status === "failed")) return "not valid";
    return this.unchecked || this.steps.length === 0 ? "undecided" : "valid";
  }
}

/** What a passing check says, and what later ones go on with. */
export interface Passed<T> {
  detail: string;
  found: T;
}

/** A passing check that later ones need nothing of. */
export function passed(detail: string): Passed<true> {
  return { detail, found: true };
}

/** A stranger's text on one line: nothing in it may look like another step, or reorder what is read. */
export function printable(text: string): string {
  const points = [...text];
  const shown = points.length <= MAX_DETAIL ? text : points.slice(0, MAX_DETAIL).join("") + "…";
  return shown.replace(/[\p{C}\p{Z}]/gu, (character) => (character === " " ? character : escaped(character)));
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}
