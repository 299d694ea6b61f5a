/** A chain node: the only thing outside that a verification may ask, and only if the auditor names one. */

/** A JSON-RPC node of an EVM chain. */
export interface ChainNode {
  /** The `result` of the answer. Rejects with a {@link NodeError} if the node answered with an error. */
  call(method: string, params: readonly unknown[]): Promise<unknown>;
}

/** The node answered with an error. */
export class NodeError extends Error {
  constructor(
    message: string,
    /** Revert data of a call, if the node gave some: `0x…`. */
    readonly data?: string,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 30_000;

/** A node over HTTP. Redirects are not followed: the auditor named this node and no other. */
export function httpNode(url: string): ChainNode {
  let id = 0;
  return {
    async call(method, params) {
      const answer = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params }),
        redirect: "error",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const said: unknown = await answer.json();
      if (typeof said !== "object" || said === null) throw new Error("not a JSON-RPC answer");
      if ("error" in said && said.error) throw refusal(said.error);
      if (!("result" in said)) throw new Error("not a JSON-RPC answer");
      return said.result;
    },
  };
}

function refusal(error: unknown): NodeError {
  if (typeof error !== "object" || error === null) return new NodeError(String(error));
  const message = "message" in error ? String(error.message) : "no message";
  const data = "data" in error && typeof error.data === "string" ? error.data : undefined;
  return data === undefined ? new NodeError(message) : new NodeError(message, data);
}
