import type { Certificate } from "../desk/state";
import { markOf, StatusMark } from "./StatusMark";
import { Steps } from "./Steps";

/** What this server says of the same file. Told apart from the page's own verdict: another box, another heading, whose word it is. */
export function OpinionCard({ certificate: { opinion, found }, ask }: { certificate: Certificate; ask(): void }) {
  return (
    <div class="opinion" role="group" aria-label="Second opinion of the server">
      <h3>Second opinion: {location.host}</h3>
      {opinion === null && (
        <p>
          The verdict above is this page’s own. You can have the server verify the same file with ezkl; the file is sent there, and its answer is its operator’s word.{" "}
          <button type="button" onClick={ask}>
            Ask this server
          </button>
        </p>
      )}
      {opinion === "asking" && <p role="status">{location.host} is verifying…</p>}
      {opinion !== null && opinion !== "asking" && "refused" in opinion && (
        <p role="status">
          No answer: {opinion.refused}{" "}
          <button type="button" onClick={ask}>
            Ask again
          </button>
        </p>
      )}
      {opinion !== null && typeof opinion === "object" && "result" in opinion && (
        <div role="status">
          <p class="opinion-result">
            <StatusMark status={markOf(opinion.result)} silent />
            <span>
              rexis {opinion.verifier} at {location.host} says: <strong>{opinion.result}</strong>
              {opinion.chain ? ", with a chain node of its operator’s" : ", without a chain node"}.
              {found && found.result !== opinion.result && <strong> This page says: {found.result}.</strong>}
            </span>
          </p>
          {opinion.error && <p>{opinion.error}</p>}
          <details>
            <summary>Its steps</summary>
            <Steps steps={opinion.steps} running={false} />
          </details>
        </div>
      )}
    </div>
  );
}
