"""``rexis demo``: the main job end to end with real processes, then what a cheat and a forger get."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rexis.cli.console import say
from rexis.cli.options import needs
from rexis.cli.stack import Stack, fresh_folder, stop
from rexis.protocol.challenge import survival_probability
from rexis.protocol.digests import sha256
from rexis.protocol.errors import RexisError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "breast_cancer"
SAMPLE_SIZE = 8
SHARD_SIZE = 72
ZK_RECORDS = 3
CHEAT = 0.5
_WAIT_S = 300.0


@dataclass(frozen=True)
class Scores:
    """How good decrypted outputs are on the held-out records.

    Attributes
    ----------
    agreement
        Fraction of records decided as the plain model decides.
    max_error
        Largest |decrypted − plain| output.
    """

    accuracy: float
    roc_auc: float
    plain_accuracy: float
    plain_roc_auc: float
    agreement: float
    max_error: float


class Demo:
    """The parts of the demo over one stack.

    Parameters
    ----------
    stack
        Not started yet.
    show
        Prints a line.
    """

    def __init__(self, stack: Stack, show: Callable[[str], None] = say) -> None:
        self.stack, self.show, self.folder = stack, show, stack.folder
        self.model_digest = ""
        self._began = time.monotonic()

    def set_up(self) -> None:
        """Chain, contracts, coordinator, two workers; then model and data owner's part."""
        self.heading("anvil, contracts and a coordinator, each a process of its own")
        self.stack.start()
        self.show(f"  chain {self.stack.chain_url}, coordinator {self.stack.coordinator_url}")
        self.show(f"  {self.stack.deployment.read_text().strip()}")

        self.heading("model owner: encrypt the model with a fresh EE key, build its circuit, register both on chain")
        key, encrypted = self.folder / "ee.key", self.folder / "encrypted.onnx"
        onnx = str(self._zoo() / f"{MODEL}.onnx")
        made = self.command("keygen", "--model", onnx, "--key", str(key), "--out", str(encrypted), "--epoch", "1")
        self.show_output(made)
        self.model_digest = str(sha256(encrypted.read_bytes()))
        done = self.command(
            "register", "--model", str(encrypted), "--epoch", "1", "--profile", MODEL, "--srs", "development",
            "--rpc", self.stack.chain_url, "--deployment", str(self.stack.deployment), *self._as("owner"),
        )  # fmt: skip
        self.show_output(done)

        self.heading("data owner: encrypt all held-out records")
        with needs("models"):
            from models.zoo import held_out
        records, _ = held_out(MODEL)
        np.save(self.folder / "records.npy", records)
        done = self.command(
            "encrypt", "--key", str(key), "--records", str(self.folder / "records.npy"), "--out", str(self.dataset)
        )
        self.show_output(done)

    @property
    def dataset(self) -> Path:
        """The encrypted dataset."""
        return self.folder / "dataset.safetensors"

    def evaluate(self) -> Path:
        """All held-out records with tier ``sampled``; returns the certificate."""
        self.heading(f"requester: evaluate all records, tier sampled, {SAMPLE_SIZE} proofs a task")
        return self.job("sampled", "--tier", "sampled", "-k", str(SAMPLE_SIZE), "--shard-size", str(SHARD_SIZE))

    def certify(self) -> Path:
        """A few records with tier ``zk``, every proof checked by the Certifier contract."""
        self.heading(f"requester: {ZK_RECORDS} records with tier zk, every proof checked on chain")
        return self.job("zk", "--tier", "zk", "--count", str(ZK_RECORDS), "--certify-on-chain")

    def job(self, name: str, *options: str) -> Path:
        """Submit, wait, fetch; returns the certificate's path."""
        submitted = self.command("submit", *self._job(*options), "--wait", "--json", quiet=True)
        view = json.loads(submitted.stdout)
        self.show(f"  job {view['jobId']} {view['state']}, {len(view['tasks'])} task(s)")
        return self.fetch(name, view["jobId"])

    def fetch(self, name: str, job_id: str) -> Path:
        """Download outputs, certificate and what an auditor needs."""
        out = self.folder / "certificates" / name
        self.show_output(
            self.command("fetch", job_id, "--out", str(out), "--dataset", str(self.dataset), *self._as("requester"))
        )
        return out / "certificate.json"

    def decrypt(self, certificate: Path) -> Scores:
        """Decrypt a job's outputs and score them beside the plain model's."""
        self.heading("requester: decrypt, and compare with the plain model")
        out = certificate.with_name("predictions.npy")
        self.show_output(
            self.command(
                "decrypt", "--key", str(self.folder / "ee.key"), "--outputs",
                str(certificate.with_name("outputs.safetensors")), "--dataset", str(self.dataset), "--out", str(out),
            )
        )  # fmt: skip
        scores = score(np.load(out))
        self.show(f"  {'held-out records':28}{'accuracy':>10}{'ROC AUC':>10}")
        self.show(f"  {'plain model':28}{scores.plain_accuracy:10.4f}{scores.plain_roc_auc:10.4f}")
        self.show(f"  {'encrypted, proved, decrypted':28}{scores.accuracy:10.4f}{scores.roc_auc:10.4f}")
        self.show(f"  same decision on {scores.agreement:.2%} of records; largest output error {scores.max_error:.2g}")
        return scores

    def audit(self, certificate: Path, *options: str) -> int:
        """Verify a certificate as an auditor does; returns the exit code."""
        done = self.command(
            "verify", str(certificate), "--rpc", self.stack.chain_url,
            "--allow-development-srs", "--allow-development-chain", *options, check=False,
        )  # fmt: skip
        self.show_output(done)
        self.show(f"  exit code {done.returncode}")
        return done.returncode

    def catch_cheat(self, honest: subprocess.Popen[bytes]) -> dict[str, Any]:
        """A dishonest worker alone, then an honest one beside it; returns the job's last view.

        Parameters
        ----------
        honest
            The running honest worker; stopped first, so that the cheat gets the task.
        """
        self.heading(f"a dishonest worker alters {CHEAT:.0%} of its outputs after computing them, and commits to those")
        stop(honest)
        self.stack.start_worker("dishonest", dishonest=f"alter-outputs:{CHEAT}")
        options = (
            "--tier",
            "sampled",
            "-k",
            str(SAMPLE_SIZE),
            "--shard-size",
            str(SHARD_SIZE),
            "--count",
            str(SHARD_SIZE),
        )
        job_id = json.loads(self.command("submit", *self._job(*options), "--json", quiet=True).stdout)["jobId"]
        survives = survival_probability(round(CHEAT * SHARD_SIZE), SHARD_SIZE, SAMPLE_SIZE)
        self.show(
            f"  {SAMPLE_SIZE} of {SHARD_SIZE} records are drawn after the commitment: this cheat is caught with "
            f"probability {1 - survives:.3f} (at least 1 - (1-f)^k = {1 - (1 - CHEAT) ** SAMPLE_SIZE:.3f})"
        )
        view = self._wait(
            job_id, lambda job: any(task["faults"] for task in job["tasks"]) or job["state"] == "certified"
        )
        for fault in (fault for task in view["tasks"] for fault in task["faults"]):
            self.show(f"  ✗ refused: worker {fault['worker']}: {fault['detail']}")
        if view["state"] == "certified":
            self.show("  not drawn this time: the cheat got through, as it may with the probability above")
            return view
        self.show("  the task goes back; an honest worker joins")
        self.stack.start_worker("worker-2")
        view = self._wait(job_id, lambda job: job["state"] in ("certified", "failed"))
        self.show(f"  job {view['state']} by worker {view['tasks'][0]['worker']}")
        return view

    def forge(self, certificate: Path) -> int:
        """Change one byte of an output in a certificate and have it verified; returns the exit code."""
        self.heading("a forger changes one byte of a certificate")
        data = certificate.read_bytes()
        at = data.index(b'"output":"0x') + len(b'"output":"0x')
        forged = certificate.with_name("forged.json")
        forged.write_bytes(data[:at] + (b"1" if data[at : at + 1] != b"1" else b"2") + data[at + 1 :])
        return self.audit(forged)

    def farewell(self) -> None:
        """What to try next; works without the stack."""
        self.heading("done. Everything lies in " + str(self.folder))
        flags = "--offline --allow-development-srs --allow-development-chain"
        shown = self.folder.relative_to(Path.cwd()) if self.folder.is_relative_to(Path.cwd()) else self.folder
        for line in (
            "Try next:",
            f"  .venv/bin/rexis verify {shown}/certificates/sampled/certificate.json {flags} --reexecute 8",
            f"  .venv/bin/rexis verify {shown}/certificates/zk/certificate.json {flags} --rebuild-circuit",
            f"  .venv/bin/rexis verify {shown}/certificates/zk/certificate.json          # refused, and why",
            "  make up       # the same stack, left running; then: rexis submit, status, fetch, decrypt, verify",
        ):
            self.show(line)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.show("")
        self.show(f"── {time.monotonic() - self._began:5.1f} s ── {text}")

    def command(self, *arguments: str, check: bool = True, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Show one ``rexis`` command and run it."""
        shown = list(arguments)
        for option in ("--coordinator", "--wallet", "--rpc", "--deployment"):  # `make up` prints them as variables
            if quiet and option in shown:
                del shown[shown.index(option) : shown.index(option) + 2]
        self.show("$ rexis " + self._short(" ".join(shown)))
        return self.stack.rexis(*arguments, check=check)

    def show_output(self, done: subprocess.CompletedProcess[str]) -> None:
        """Show what a command printed."""
        for line in (done.stdout + (done.stderr if done.returncode else "")).rstrip().splitlines():
            self.show("  " + self._short(line))

    def _job(self, *options: str) -> list[str]:
        return [
            "--dataset",
            str(self.dataset),
            "--model",
            self.model_digest,
            "--epoch",
            "1",
            *options,
            *self._as("requester"),
        ]

    def _as(self, role: str) -> list[str]:
        return ["--coordinator", self.stack.coordinator_url, "--wallet", str(self.stack.wallet(role))]

    def _wait(self, job_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            view: dict[str, Any] = json.loads(
                self.stack.rexis("status", job_id, "--json", *self._as("requester")).stdout
            )
            if until(view):
                return view
            time.sleep(1.0)
        raise RexisError(f"job {job_id} did not get there within {_WAIT_S:g} s", hint=f"see {self.folder}/logs")

    def _short(self, text: str) -> str:
        return text.replace(f"{self.folder}/", "").replace(f"{Path.cwd()}/", "")

    @staticmethod
    def _zoo() -> Path:
        with needs("models"):
            import models
        return Path(models.__path__[0]) / "onnx"


def score(decrypted: NDArray[np.float32]) -> Scores:
    """Score decrypted outputs ``[n, 2]`` of all held-out records beside the plain model's."""
    with needs("models"):
        import onnxruntime as ort
        from sklearn.metrics import accuracy_score, roc_auc_score

        from models.zoo import held_out, load_model_bytes
    records, labels = held_out(MODEL)
    session = ort.InferenceSession(load_model_bytes(MODEL), providers=["CPUExecutionProvider"])
    plain = session.run(None, {session.get_inputs()[0].name: records})[0]
    decided, decided_plain = decrypted.argmax(axis=1), plain.argmax(axis=1)
    return Scores(
        accuracy=float(accuracy_score(labels, decided)),
        roc_auc=float(roc_auc_score(labels, decrypted[:, 1] - decrypted[:, 0])),
        plain_accuracy=float(accuracy_score(labels, decided_plain)),
        plain_roc_auc=float(roc_auc_score(labels, plain[:, 1] - plain[:, 0])),
        agreement=float((decided == decided_plain).mean()),
        max_error=float(np.abs(decrypted - plain).max()),
    )


def demo(out: Path) -> None:
    """Run the main job end to end on this machine, then show a cheat caught and a forgery refused."""
    with Stack(fresh_folder(out)) as stack:
        run = Demo(stack)
        run.set_up()
        workers = [stack.start_worker(name) for name in ("worker-1", "worker-2")]
        sampled = run.evaluate()
        run.decrypt(sampled)
        stop(workers[1])
        zk = run.certify()
        run.heading("auditor: verify both certificates, with no key, against the chain")
        codes = [run.audit(sampled, "--reexecute", "4"), run.audit(zk)]
        view = run.catch_cheat(workers[0])
        refused = run.forge(sampled)
    run.farewell()
    if codes != [0, 0] or refused != 1 or view["state"] != "certified":
        raise RexisError(
            f"the demo did not end as it should: verify gave {codes}, the forgery {refused}, the job {view['state']}",
            hint=f"logs are in {out}/logs",
        )
