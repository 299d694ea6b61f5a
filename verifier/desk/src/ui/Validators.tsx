import type { Choices } from "../desk/messages";
import { Digest } from "./Digest";
import { FileButton } from "./FileButton";

interface Props {
  choices: Choices;
  onFiles(files: File[]): void;
  forget(): void;
}

const CHOOSE = "choose-manifest";

/** Whose verdicts step 28 asks for: the manifest's, which is chosen here or dropped. */
export function Validators({ choices: { quorum, node }, onFiles, forget }: Props) {
  return (
    <fieldset>
      <legend>Whose word counts</legend>
      <p class="note">
        A certificate cannot say which validators you trust. The manifest of their quorum does (<code>accountability.json</code>): choose it, or drop it.
      </p>
      <div aria-live="polite">
        {quorum && (
          <p>
            Validators of quorum <Digest value={quorum.address} what="the quorum’s address" /> on chain {quorum.chainId}, by {quorum.name}.
            {node === null && " Name a chain node, too: what they said stands on chain."}
          </p>
        )}
      </div>
      <p class="actions">
        <FileButton id={CHOOSE} label={quorum ? "Choose another manifest…" : "Choose a manifest…"} onFiles={onFiles} />
        {quorum && (
          <button
            type="button"
            onClick={() => {
              document.getElementById(CHOOSE)?.focus(); // this button goes
              forget();
            }}
          >
            Name no validators
          </button>
        )}
      </p>
    </fieldset>
  );
}
