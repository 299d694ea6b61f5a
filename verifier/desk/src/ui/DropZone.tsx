import { FileButton } from "./FileButton";

interface Props {
  lead: string;
  note: string;
  /** Something is held over the page. */
  over: boolean;
  onFiles(files: File[]): void;
}

/** Where files go: by drop (anywhere on the page), or by the button. */
export function DropZone({ lead, note, over, onFiles }: Props) {
  return (
    <div class={over ? "drop over" : "drop"}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M6 3h8l4 4v14H6zM14 3v4h4M12 18v-7M9 13.5l3-3 3 3" />
      </svg>
      <p class="drop-lead">{lead}</p>
      <FileButton label="Choose files…" primary onFiles={onFiles} />
      <p class="note">{note}</p>
    </div>
  );
}
