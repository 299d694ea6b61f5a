/** Files that were not taken, and why. */
export function Refusals({ reasons, forget }: { reasons: string[]; forget(): void }) {
  return (
    <div role="alert">
      {reasons.length > 0 && (
        <div class="warning">
          <ul class="refusals">
            {reasons.map((reason, at) => (
              <li key={at}>{reason}</li>
            ))}
          </ul>
          <button type="button" onClick={forget}>
            Close
          </button>
        </div>
      )}
    </div>
  );
}
