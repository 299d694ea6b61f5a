import type { Result, Status } from "../verify";

export type Mark = Status | "running" | "waiting";

/** Never colour alone: each has a shape and a word of its own. */
const SHAPES: Record<Mark, { word: string; path: string }> = {
  ok: { word: "holds", path: "M4.5 8.4l2.4 2.4 4.6-5.2" },
  failed: { word: "failed", path: "M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" },
  unchecked: { word: "not checked", path: "M6 6.2a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.3M8 11.4v.1" },
  skipped: { word: "skipped", path: "M5 8h6" },
  running: { word: "running", path: "M8 5v3l2 1.4" },
  waiting: { word: "waiting", path: "M5.5 8h.1M8 8h.1M10.5 8h.1" },
};

interface Props {
  status: Mark;
  /** A word stands beside it. */
  silent?: boolean;
  /** Within a drawing: where. */
  at?: { x: number; y: number; size: number };
}

export function StatusMark({ status, silent = false, at }: Props) {
  const { word, path } = SHAPES[status];
  return (
    <svg class={`mark mark-${status}`} viewBox="0 0 16 16" {...(at && { x: at.x, y: at.y, width: at.size, height: at.size })} {...(silent ? { "aria-hidden": true } : { role: "img", "aria-label": word })}>
      <circle cx="8" cy="8" r="7.25" />
      <path d={path} />
    </svg>
  );
}

export const markOf = (result: Result): Status => (result === "valid" ? "ok" : result === "not valid" ? "failed" : "unchecked");
