import { useRef } from "preact/hooks";

interface Props {
  label: string;
  id?: string;
  primary?: boolean;
  onFiles(files: File[]): void;
}

/** A button that opens the browser's file chooser, so that the keyboard reaches what can also be dropped. */
export function FileButton({ label, id, primary = false, onFiles }: Props) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" id={id} class={primary ? "primary" : undefined} onClick={() => input.current?.click()}>
        {label}
      </button>
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
    </>
  );
}
