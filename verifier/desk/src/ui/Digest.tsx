import { useState } from "preact/hooks";
import { short } from "../desk/digest";

/** A digest, an address or a transaction: whole, or short with a button that copies the whole. */
export function Digest({ value, what, whole = false }: { value: string; what: string; whole?: boolean }) {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard?.writeText(value);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <span class="digest">
      <code title={value}>{whole ? value : short(value)}</code>
      <button type="button" class="copy" onClick={() => void copy()} aria-label={`Copy ${what}`}>
        {copied ? "copied" : "copy"}
      </button>
    </span>
  );
}
