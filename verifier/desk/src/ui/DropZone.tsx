import { useRef } from "preact/hooks";

interface Props {
  lead: string;
  note: string;
  /** Something is held over the page. */
  over: boolean;
  onFiles(files: File[]): void;
}

/** Where files go: by drop (anywhere on the page), or by the button, which the keyboard reaches. */
export function DropZone({ lead, note, over, onFiles }: Props) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class={over ? "drop over" : "drop"}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M6 3h8l4 4v14H6zM14 3v4h4M12 18v-7M9 13.5l3-3 3 3" />
      </svg>
      <p class="drop-lead">{lead}</p>
      <button type="button" class="primary" onClick={() => input.current?.click()}>
        Choose files…
      </button>
      <p class="note">{note}</p>
      <input
        ref={input}
        type="file"
        class="hidden"
        tabIndex={-1}
        aria-hidden="true"
        multiple
        onChange={(event) => {
          onFiles([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}
