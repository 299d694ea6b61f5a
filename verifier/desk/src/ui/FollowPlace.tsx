import { useEffect, useRef, useState } from "preact/hooks";
import { isDigest } from "../desk/digest";
import { type Change, follow, type Progress } from "../desk/job-events";
import { isNode, Text } from "./Settings";

const KEPT = 200;

/** A job, live, as its coordinator tells it. */
export function FollowPlace() {
  const [coordinator, setCoordinator] = useState("");
  const [job, setJob] = useState("");
  const [token, setToken] = useState("");
  const [progress, setProgress] = useState<Progress | null>(null);
  const [changes, setChanges] = useState<Change[]>([]);
  const [says, setSays] = useState("");
  const [following, setFollowing] = useState(false);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);

  const start = async (): Promise<void> => {
    stop.current?.abort();
    const mine = (stop.current = new AbortController());
    setChanges([]);
    setProgress(null);
    setSays("Connecting…");
    setFollowing(true);
    try {
      await follow(
        coordinator,
        job,
        token,
        mine.signal,
        (event) => {
          if (event.kind === "change") setChanges((before) => [event.change, ...before].slice(0, KEPT));
          else setProgress(event.progress);
          if (event.kind === "end") setSays("The job has ended.");
        },
        (trouble) => setSays(trouble === null ? "Connected." : `No connection (${trouble}). Trying again… Does the coordinator allow this page (REXIS_DESK_ORIGINS)?`),
      );
      if (mine.signal.aborted) setSays("Stopped.");
    } catch (error) {
      setSays(error instanceof Error ? error.message : String(error));
    }
    if (stop.current === mine) setFollowing(false);
  };

  const ready = isNode(coordinator) && isDigest(job) && token !== "";
  return (
    <>
      <h1>Follow a job</h1>
      <p class="lead">
        As its coordinator tells it, while it happens. Nothing of it is checked: that is what the certificate is for. The coordinator has to allow this page’s origin (
        <code>REXIS_DESK_ORIGINS</code>), and wants a token of the job’s requester: <code>rexis token</code> prints one, good for half an hour. The token stays in this page’s
        memory.
      </p>
      <section class="panel">
        <form
          class="row"
          autocomplete="off"
          onSubmit={(event) => {
            event.preventDefault();
            void start();
          }}
        >
          <Text id="coordinator" label="Coordinator" placeholder="https://…" value={coordinator} wrong={coordinator && !isNode(coordinator) ? "A coordinator is https://…, or http:// on this machine." : null} onInput={setCoordinator} />
          <Text id="job" label="Job" placeholder="0x…" value={job} wrong={job && !isDigest(job) ? "A job id is 0x and 64 digits." : null} onInput={setJob} />
          <Text id="token" label="Token" placeholder="" secret value={token} wrong={null} onInput={(text) => setToken(text.trim())} />
          <button type="submit" class="primary" disabled={!ready}>
            Follow
          </button>
          <button type="button" disabled={!following} onClick={() => stop.current?.abort()}>
            Stop
          </button>
        </form>
        <p class="note" role="status">
          {says}
        </p>
      </section>
      {progress && (
        <section class="panel">
          <h2>Progress</h2>
          <p>
            <strong>{progress.state}</strong>: {progress.done} of {progress.tasks} tasks done, {progress.leased} being worked on
          </p>
          <progress aria-label="Tasks done" value={progress.done} max={Math.max(progress.tasks, 1)} />
        </section>
      )}
      {changes.length > 0 && (
        <section class="panel">
          <h2>What happened</h2>
          <ol class="changes" reversed>
            {changes.map((change, at) => (
              <li key={changes.length - at}>
                <time dateTime={change.at}>{change.at}</time> {change.entity}
                {change.start !== null && ` from record ${change.start}`}: {change.before ?? "new"} → <strong>{change.after}</strong>
                {change.reason && ` (${change.reason})`}
              </li>
            ))}
          </ol>
        </section>
      )}
    </>
  );
}
