/** A job's server-sent events from its coordinator. By `fetch`, because an EventSource cannot carry a token. */

import { Field } from "./reading";

export interface Change {
  entity: string;
  start: number | null;
  before: string | null;
  after: string;
  at: string;
  reason: string;
}

export interface Progress {
  state: string;
  tasks: number;
  leased: number;
  done: number;
}

export type JobEvent = { kind: "change"; change: Change } | { kind: "progress" | "end"; progress: Progress };

const MAX_EVENT = 1 << 20;

/** Follows a job until it ends, or the signal says stop; goes on after a broken connection where it was. */
export async function follow(
  coordinator: string,
  job: string,
  token: string,
  signal: AbortSignal,
  onEvent: (event: JobEvent) => void,
  onTrouble: (reason: string | null) => void,
): Promise<void> {
  let last: string | null = null;
  for (let waits = 1000; !signal.aborted; waits = Math.min(waits * 2, 30_000)) {
    try {
      const headers: Record<string, string> = { authorization: `Bearer ${token}`, accept: "text/event-stream" };
      if (last !== null) headers["last-event-id"] = last;
      const url = new URL(`v1/jobs/${job}/events`, coordinator.endsWith("/") ? coordinator : `${coordinator}/`);
      const response = await fetch(url, { headers, signal, credentials: "omit", redirect: "error", cache: "no-store", referrerPolicy: "no-referrer" });
      if (!response.ok) throw new Answered(await reasonOf(response));
      onTrouble(null);
      waits = 1000;
      for await (const { id, event, data } of messages(response.body!)) {
        if (id !== null) last = id;
        const read = eventOf(event, data);
        if (read === null) continue;
        onEvent(read);
        if (read.kind === "end") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Answered) throw error;
      onTrouble(error instanceof Error ? error.message : String(error));
    }
    await new Promise((resolve) => setTimeout(resolve, waits));
  }
}

/** The coordinator said no: trying again would not help. */
export class Answered extends Error {}

async function reasonOf(response: Response): Promise<string> {
  try {
    const problem = new Field(await response.json(), "the problem");
    const hint = problem.get("hint").maybe((each) => each.text());
    return `${response.status}: ${problem.get("detail").maybe((each) => each.text()) ?? problem.get("title").text()}${hint ? ` (${hint})` : ""}`;
  } catch {
    return `the coordinator answered ${response.status}`;
  }
}

interface Message {
  id: string | null;
  event: string;
  data: string;
}

/** The event stream format (HTML Living Standard §9.2), as far as the coordinator uses it. */
async function* messages(body: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const fields = new Map(text.slice(0, end).split("\n").map((line) => pair(line)));
      text = text.slice(end + 2);
      if (fields.has("data")) yield { id: fields.get("id") ?? null, event: fields.get("event") ?? "message", data: fields.get("data")! };
    }
    if (text.length > MAX_EVENT) throw new Error("the coordinator sent an event that does not end");
  }
}

function pair(line: string): [string, string] {
  const at = line.indexOf(":");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
}

function eventOf(kind: string, data: string): JobEvent | null {
  const field = new Field(JSON.parse(data), kind);
  if (kind === "change") {
    return {
      kind,
      change: {
        entity: field.get("entity").text(),
        start: field.get("start").maybe((each) => each.number()),
        before: field.get("before").maybe((each) => each.text()),
        after: field.get("after").text(),
        at: field.get("at").text(),
        reason: field.get("reason").text(),
      },
    };
  }
  if (kind !== "progress" && kind !== "end") return null;
  return {
    kind,
    progress: {
      state: field.get("state").text(),
      tasks: field.get("tasks").number(),
      leased: field.get("leased").number(),
      done: field.get("done").number(),
    },
  };
}
