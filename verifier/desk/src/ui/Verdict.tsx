import type { Certificate } from "../desk/state";
import type { Step } from "../verify";
import { Said } from "./Said";
import { markOf, type Mark, StatusMark } from "./StatusMark";

/** The step that is skipped, with all after it that ask a chain, where there is no node. */
const CHAIN = 14;

/** The verdict in words. */
export function Verdict({ certificate }: { certificate: Certificate }) {
  const { mark, word, text } = wordsOf(certificate);
  return (
    <div class={`verdict verdict-${mark}`}>
      <StatusMark status={mark} silent />
      <div>
        <p class="verdict-word">{word}</p>
        <p>
          <Said text={text} />
        </p>
      </div>
    </div>
  );
}

export function wordsOf({ progress, found, steps, trouble, choices }: Certificate): { mark: Mark; word: string; text: string } {
  if (progress === "waiting") return { mark: "waiting", word: "Waiting", text: "for the verification before it" };
  if (progress === "running") return { mark: "running", word: "Verifying", text: `${steps.length} steps so far` };
  if (found === null) return { mark: "unchecked", word: "Undecided", text: `The verification did not come to its end: ${trouble ?? "no reason was given"}` };
  const mark = markOf(found.result);
  if (found.result === "not valid") {
    const failed = found.steps.find(({ status }) => status === "failed");
    return { mark, word: "Not valid", text: failed ? `Step ${failed.number} (${failed.name}) failed: ${failed.detail}` : "A step failed." };
  }
  if (found.result === "undecided") {
    const open = found.steps.filter(({ status }) => status === "unchecked");
    return { mark, word: "Undecided", text: `Nothing speaks against it, but not everything could be checked here: ${named(open)}.` };
  }
  const skipped = found.steps.filter(({ number, status }) => status === "skipped" && number !== CHAIN);
  const text = skipped.length === 0 ? "" : ` Skipped: ${named(skipped)}.`;
  if (choices?.node === null) return { mark, word: "Valid, offline", text: `Every step that was taken holds. Whether the chain has any of it, nobody was asked.${text}` };
  return { mark, word: "Valid", text: text ? `Every step that was taken holds.${text}` : "Every step holds." };
}

const named = (steps: Step[]): string => steps.map(({ number, name }) => `${number} ${name}`).join("; ");
