"""``rexis demo-train``: two parties fine-tune models on a stranger's worker, and an auditor takes its steps again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rexis.cli._script import Script
from rexis.cli.console import say
from rexis.cli.options import needs
from rexis.cli.stack import Stack, fresh_folder, stop
from rexis.protocol.digests import sha256
from rexis.protocol.errors import RexisError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEGMENTS_AGAIN = 3
_RECORDS = 400  # that the trained model is evaluated on
_OPENED = 8  # of these, in the certificate, so that an auditor can run them again
_MAX_DEVIATION = 1e-4
# A hospital whose device gives what the model's owner never saw: electrodes the other way round, inverted greys.
_DEVICES = {"ecg": "electrodes the other way round", "vit": "grey values inverted"}


@dataclass(frozen=True)
class Course:
    """How one zoo model is fine-tuned.

    Attributes
    ----------
    train
        What trains, as options of ``rexis ee encrypt-for-training``.
    plan
        Options of ``rexis train plan``.
    """

    model: str
    train: tuple[str, ...]
    plan: tuple[str, ...]


COURSES = (
    Course(
        "ecg",
        ("--optimiser", "adamw", "--train", "lora", "--train", "head", "--rank", "8", "--alpha", "16"),
        ("--lr", "0.003", "--weight-decay", "0.01", "--clip-norm", "1", "--batch-size", "32", "--steps", "120",
         "--warmup", "10", "--schedule", "cosine"),
    ),
    Course(
        "vit",
        ("--optimiser", "sgd", "--train", "all"),
        ("--lr", "0.02", "--momentum", "0.9", "--clip-norm", "1", "--batch-size", "32", "--steps", "120",
         "--warmup", "10", "--schedule", "cosine"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a course came to.

    Attributes
    ----------
    before, after
        Accuracy on the hospital's held-out records of the plain base model, and of the decrypted trained one.
    deviation
        Largest relative distance of a trained tensor from that of the same run in the clear.
    """

    before: float
    after: float
    deviation: float


class TrainingDemo(Script):
    """One course over one stack.

    Parameters
    ----------
    stack
        Started, with a worker.
    """

    def __init__(self, stack: Stack, course: Course, show: Callable[[str], None] = say) -> None:
        super().__init__(stack, show)
        self.course, self.own = course, stack.folder / course.model
        self.own.mkdir()

    def file(self, name: str) -> str:
        """A file of this course."""
        return str(self.own / name)

    def prepare(self) -> None:
        """Both parties encrypt what is theirs."""
        from models.zoo import ONNX_DIR

        name = self.course.model
        self.heading(f"model owner: encrypt {name} for training, register it, hand the label part of the key on")
        self.run(
            "ee", "encrypt-for-training", "--model", str(ONNX_DIR / f"{name}.onnx"), "--loss", "cross-entropy",
            *self.course.train, "--key", self.file("owner.key"), "--out", self.file("encrypted.onnx"),
            "--training", self.file("training.json"), "--card", self.file("card.html"),
        )  # fmt: skip
        self.register("encrypted.onnx")
        self.run("key", "recipient", "--out", self.file("hospital.private"), "--public", self.file("hospital.pub"))
        self.run(
            "key", "share", "--key", self.file("owner.key"), "--to", self.file("hospital.pub"), "--part", "label",
            "--out", self.file("sealed"), "--yes",
        )  # fmt: skip
        records, labels = hospital(name, held_out=False)
        np.save(self.file("records.npy"), records)
        np.save(self.file("labels.npy"), labels)
        self.heading(f"data owner: {len(records)} records of a device with {_DEVICES[name]}, and their labels")
        self.run(
            "key", "receive", self.file("sealed"), "--with", self.file("hospital.private"),
            "--out", self.file("label.key"),
        )  # fmt: skip
        self.run(
            "train", "encrypt-records", "--key", self.file("label.key"), "--training", self.file("training.json"),
            "--records", self.file("records.npy"), "--labels", self.file("labels.npy"),
            "--out", self.file("rows.safetensors"),
        )  # fmt: skip
        self.run(
            "train",
            "plan",
            "--training",
            self.file("training.json"),
            *self.course.plan,
            "--out",
            self.file("plan.json"),
        )

    def train(self) -> Path:
        """Submit, wait, fetch; returns the certificate's path."""
        self.heading("data owner: submit the training; a worker that holds no key takes its steps")
        done = self.command("train", "submit", *self.job(), "--wait", "--json", quiet=True)
        view = json.loads(done.stdout)
        self.show(f"  job {view['jobId']} {view['state']}")
        out = self.own / "trained"
        self.run("train", "fetch", view["jobId"], "--out", str(out), *self.signed_by("requester"))
        return out / "certificate.json"

    def decrypt(self) -> Trained:
        """Decrypt the trained model, and compare it with the base model and with the same run in the clear."""
        self.heading("model owner: decrypt the trained model")
        from models.zoo import ONNX_DIR

        self.run(
            "ee", "decrypt-model", "--checkpoint", self.file("trained/checkpoint.onnx"),
            "--key", self.file("owner.key"), "--training", self.file("training.json"),
            "--out", self.file("trained.onnx"),
            *(["--merge-lora"] if "lora" in self.course.train else []),
        )  # fmt: skip
        before = accuracy(self.course.model, ONNX_DIR / f"{self.course.model}.onnx")
        after = accuracy(self.course.model, self.own / "trained.onnx")
        self.show(f"  accuracy on held-out records of that device: {before:.3f} before, {after:.3f} after")
        deviation = self.deviation()
        self.show(f"  the same run in the clear ends with the same weights, up to {deviation:.1e} of each tensor")
        return Trained(before, after, deviation)

    def deviation(self) -> float:
        """Take the same steps in the clear, from the plain model with the same adapters."""
        with needs("training"):
            from rexis.training.exporting import initial_weights
            from rexis.training.session import Trainer
        from rexis.cli.finetuning import read_description
        from rexis.cli.training_jobs import read_plan
        from rexis.ee import load_key
        from rexis.ee.finetune.decrypting import decrypt_model

        description, plan = read_description(self.own / "training.json"), read_plan(self.own / "plan.json")
        key = load_key(self.own / "owner.key", self.stack.passphrase_file.read_text().strip())
        base, trained = (
            decrypt_model((self.own / name).read_bytes(), key, description)
            for name in ("encrypted.onnx", "trained/checkpoint.onnx")
        )
        records, labels = hospital(self.course.model, held_out=False)
        rows = np.concatenate([records.reshape(len(records), -1), labels[:, None]], axis=1).astype(np.float32)
        clear = Trainer(base, plan, rows)
        clear.advance(plan.steps)
        expected = initial_weights(clear.export(), plan.trainable)
        found = initial_weights(trained, plan.trainable)
        return max(float(np.linalg.norm(found[n] - expected[n]) / np.linalg.norm(expected[n])) for n in expected)

    def evaluate(self) -> Path:
        """Register the trained model, still encrypted, and have it evaluated; returns the certificate's path."""
        self.heading("both: register the trained model and have it evaluated, under the key that they have")
        self.register("trained/checkpoint.onnx")
        self.run(
            "key", "follow", "--key", self.file("label.key"), "--checkpoint", self.file("trained/checkpoint.onnx"),
            "--training", self.file("training.json"), "--out", self.file("trained.key"),
        )  # fmt: skip
        records, _ = hospital(self.course.model, held_out=True)
        np.save(self.file("held-out.npy"), records[:_RECORDS])
        self.run(
            "encrypt", "--key", self.file("trained.key"), "--records", self.file("held-out.npy"),
            "--out", self.file("held-out.safetensors"),
        )  # fmt: skip
        done = self.command(
            "submit", "--dataset", self.file("held-out.safetensors"), "--model", self.digest("trained/checkpoint.onnx"),
            "--epoch", "1", "--tier", "commit", "-k", str(_OPENED), "--wait", "--json", *self.signed_by("requester"),
            quiet=True,
        )  # fmt: skip
        out = self.own / "evaluated"
        self.run("fetch", json.loads(done.stdout)["jobId"], "--out", str(out), *self.signed_by("requester"))
        return out / "certificate.json"

    def audit_all(self, training: Path, evaluation: Path) -> int:
        """Check both certificates, and the lineage that they make; returns the exit code."""
        self.heading(f"auditor: no key; verify both, take {SEGMENTS_AGAIN} more segments again, walk the lineage")
        for file in evaluation.parent.glob("sha256-*"):  # an auditor's one folder
            (training.parent / file.name).write_bytes(file.read_bytes())
        code = self.audit(training, str(evaluation), "--reexecute", str(SEGMENTS_AGAIN))
        self.run("lineage", str(training), str(evaluation))
        return code

    def catch_cheat(self, honest: subprocess.Popen[bytes]) -> bool:
        """A worker alone that trains at half the learning rate; whether it is refused."""
        self.heading("a dishonest worker trains at half the learning rate; segments are drawn after it has committed")
        stop(honest)
        self.stack.start_worker("dishonest", dishonest="training-rate")
        done = self.command("train", "submit", *self.job(), "--json", quiet=True)
        job_id = json.loads(done.stdout)["jobId"]
        view = self.wait(job_id, lambda job: job["tasks"][0]["faults"] or job["state"] == "certified")
        faults = view["tasks"][0]["faults"]
        for fault in faults:
            self.show(f"  ✗ refused: worker {fault['worker']}: {fault['detail']}")
        return bool(faults)

    def register(self, model: str) -> None:
        """Register an encrypted model of this course, on chain and with the coordinator."""
        self.run(
            "register", "--model", self.file(model), "--epoch", "1", "--rpc", self.stack.chain_url,
            "--deployment", str(self.stack.deployment), *self.signed_by("owner"),
        )  # fmt: skip

    def job(self) -> list[str]:
        """Options of the training job."""
        return [
            "--dataset", self.file("rows.safetensors"), "--plan", self.file("plan.json"),
            "--model", self.digest("encrypted.onnx"), "--epoch", "1", "--tier", "sampled",
            "-k", str(SEGMENTS_AGAIN), *self.signed_by("requester"),
        ]  # fmt: skip

    def digest(self, model: str) -> str:
        """Of a model of this course."""
        return str(sha256((self.own / model).read_bytes()))

    def run(self, *arguments: str) -> None:
        """Show a command and what it prints."""
        self.show_output(self.command(*arguments))


def hospital(model: str, *, held_out: bool) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Records of a zoo model as another device would give them, with their labels."""
    with needs("models"):
        from models import zoo
    records, labels = zoo.held_out(model) if held_out else zoo.training_split(model)
    return -records[:2500], labels[:2500]


def accuracy(model: str, file: Path) -> float:
    """Of a plain model on the hospital's held-out records."""
    with needs("models"):
        import onnxruntime

        from models.zoo import metrics_of
    records, labels = hospital(model, held_out=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return metrics_of(session.run(None, {session.get_inputs()[0].name: records})[0], labels)["accuracy"]


def demo_train(out: Path, models: tuple[str, ...] = ()) -> None:
    """Run the courses end to end on this machine; then show a cheat that is caught."""
    courses = [course for course in COURSES if not models or course.model in models]
    found: dict[str, Trained] = {}
    codes: list[int] = []
    with Stack(fresh_folder(out)) as stack:
        stack.start()
        worker = stack.start_worker("worker")
        for course in courses:
            run = TrainingDemo(stack, course)
            run.prepare()
            training = run.train()
            found[course.model] = run.decrypt()
            codes.append(run.audit_all(training, run.evaluate()))
        caught = run.catch_cheat(worker)
    say("")
    for model, each in found.items():
        said = f"accuracy {each.before:.3f} → {each.after:.3f}, weights within {each.deviation:.1e} of the clear run"
        say(f"{model:10} {said}")
    good = all(each.after > each.before and each.deviation <= _MAX_DEVIATION for each in found.values())
    if any(codes) or not caught or not good:
        raise RexisError(
            f"the demo did not end as it should: verify gave {codes}, the cheat was {'' if caught else 'not '}caught",
            hint=f"logs are in {out}/logs",
        )
