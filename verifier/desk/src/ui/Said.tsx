/** A sentence of the library's, with its digests, addresses and hashes in letters of one width, to be compared. */
export function Said({ text }: { text: string }) {
  return text.split(/(0x[0-9a-fA-F]{40,})/).map((part, at) => (at % 2 === 0 ? part : <code key={at}>{part}</code>));
}
