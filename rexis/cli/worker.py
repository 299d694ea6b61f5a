"""`rexis worker`: run one, see what it does, end it, find out what this machine can do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import emit, note, say, steps
from rexis.cli.options import (
    Coordinator,
    Json,
    PassphraseFile,
    Wallet,
    address,
    needs,
    open_wallet,
    read_accountability,
    read_deployment,
)
from rexis.protocol.errors import ConflictError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from provers.status import WorkerStatus
    from rexis.protocol.policy import Tier

app = typer.Typer(help="Run a worker, look after it, and see what this machine can do.", no_args_is_help=True)

Cache = Annotated[Path | None, typer.Option(metavar="DIR", help="Where models, keys and finished proofs are kept.")]
Name = Annotated[str | None, typer.Option(help="Which worker, where several share the folder. Default: the only one.")]

_POLL_S = 0.2


@app.command("run")
def run(
    coordinator: Coordinator,
    wallet: Wallet,
    rpc: Annotated[
        str | None,
        typer.Option(
            "--rpc", envvar="REXIS_RPC", metavar="URL", help="A chain node that you trust, to check models on."
        ),
    ] = None,
    trust_coordinator_rpc: Annotated[
        bool,
        typer.Option(
            "--trust-coordinator-rpc",
            help="Instead of --rpc: the coordinator's node, which can show any model and challenge.",
        ),
    ] = False,
    unchecked_chain: Annotated[
        bool,
        typer.Option("--unchecked-chain", help="Instead of --rpc: do not check models and challenges on chain."),
    ] = False,
    deployment: Annotated[
        Path | None,
        typer.Option(
            envvar="REXIS_DEPLOYMENT", metavar="FILE", help="Work for this deployment only. Default: the coordinator's."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Shown to people. Default: this machine's name.")] = None,
    cache: Cache = None,
    tiers: Annotated[
        str | None, typer.Option(metavar="TIER,…", help="Tiers to serve. Default: all that can be proved here.")
    ] = None,
    train: Annotated[
        bool | None,
        typer.Option("--train/--no-train", help="Take trainings. Default: if torch is installed, and without --ray."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Records per run of the model.")] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.5, metavar="GIB", help="Memory for keys and proofs. Default: what is free.")
    ] = None,
    proof_timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0, metavar="SECONDS", help="Give a task up whose set-up or proof takes longer. Default: 3600."
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Tasks side by side. Default: one for four cores, at most 8."),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda:N", help="What models run on; auto: a GPU if one comes up.")
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="Compute on a Ray cluster, rather than on this machine alone."),
    ] = None,
    provers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Proofs side by side, if there is memory for them. Default: one a core."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="When told to stop, finish the tasks rather than give them back.")
    ] = False,
    onsite: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A private dataset (`rexis onsite commit`): prove on it, here, and do nothing else. May be repeated.",
        ),
    ] = None,
    disputes: Annotated[
        Path | None,
        typer.Option(
            "--disputes",
            metavar="FILE",
            help="Answer challenges of this worker's statements, at this deployment (`rexis disputes deploy`). Needs "
            "--rpc, and coins for gas in the wallet.",
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="GIB", help="Disk for what challenges are answered from. Default: 20."),
    ] = None,
    onsite_requester: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Whose jobs on it are done. Default: those of this worker's own wallet."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="REXIS_METRICS_PORT", min=0, max=65535, metavar="PORT", help="Serve Prometheus metrics there."
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(envvar="REXIS_METRICS_HOST", metavar="HOST", help="Address of the metrics.")
    ] = "127.0.0.1",
    dishonest: Annotated[str | None, typer.Option("--dishonest-for-tests-only", hidden=True)] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Lease tasks, compute on ciphertext, prove, hand in; until Ctrl-C, SIGTERM or `rexis worker drain`."""
    import socket

    if [rpc is not None, trust_coordinator_rpc, unchecked_chain].count(True) != 1:
        raise typer.BadParameter(
            "give one of --rpc URL, --trust-coordinator-rpc, --unchecked-chain (REXIS_RPC counts as --rpc)",
            param_hint="--rpc",
        )
    with needs("worker"):
        from provers.device import Device
        from provers.worker import WorkerOptions, run_worker

    found: dict[str, Any] = {
        "rpc_url": rpc,
        "domain": read_deployment(deployment).domain if deployment else None,
        "tiers": _tiers(tiers) if tiers else None,
        "trains": train,
        "batch_size": batch_size,
        "memory_bytes": int(memory * (1 << 30)) if memory else None,
        "proof_seconds": proof_timeout,
        "provers": provers,
        "tasks": tasks,
        "ray": ray,
        "device": Device.parse(device),
        "disputes": read_accountability(disputes) if disputes else None,
        "kept_bytes": int(keep * (1 << 30)) if keep else None,
        "onsite_requester": address(onsite_requester, "--onsite-requester") if onsite_requester else None,
    }
    run_worker(
        WorkerOptions(
            coordinator=coordinator,
            account=open_wallet(wallet, passphrase_file),
            name=name or socket.gethostname(),
            cache=cache_folder(cache),
            trust_coordinator_rpc=trust_coordinator_rpc,
            unchecked_chain=unchecked_chain,
            finish=finish,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            dishonest=dishonest,
            onsite=tuple(onsite or ()),
            **{option: value for option, value in found.items() if value is not None},
        )
    )


@app.command("status")
def status(cache: Cache = None, as_json: Json = False) -> None:
    """Show what the workers of this folder are doing. Exit code 1 if none runs."""
    with needs("worker"):
        from provers.status import running

    found = running(cache_folder(cache))
    if as_json:
        emit([one.to_object() for one in found])
    for one in [] if as_json else found:
        _show(one)
    if not found:
        note(f"no worker runs with {cache_folder(cache)}")
        raise typer.Exit(1)


@app.command("drain")
def drain(
    cache: Cache = None,
    name: Name = None,
    now: Annotated[bool, typer.Option("--now", help="Give the tasks back rather than finish them.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer. Default: until it has ended.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a worker finish its tasks and take no new ones; it then ends. Waits for that.

    A worker that is restarted by something else (systemd's Restart=always, a container's policy) comes back; with
    Restart=on-failure it stays down.
    """
    with needs("worker"):
        from provers.status import last_of, running

    folder = cache_folder(cache)
    told = _the_one(running(folder), folder, name)
    _signal(told.pid, signal.SIGTERM if now else signal.SIGUSR1)
    deadline = None if timeout is None else time.monotonic() + timeout
    with steps() as at:
        while (found := _same(running(folder), told)) is not None:
            for task in found.tasks:
                at(f"{task.name}: {task.stage.value}", task.done, task.total)
            if deadline is not None and time.monotonic() > deadline:
                raise UnavailableError(
                    f"worker {told.name} has {len(found.tasks)} tasks after {timeout:g} s",
                    hint="it goes on; --now gives them back",
                )
            time.sleep(_POLL_S)
    last = last_of(folder, told)
    if as_json:
        emit(last.to_object())
        return
    say(f"ended    {last.name} ({last.address}), {_endings(last)}")


@app.command("check")
def check(
    coordinator: Annotated[
        str | None, typer.Option(envvar="REXIS_COORDINATOR", metavar="URL", help="The coordinator to work for.")
    ] = None,
    rpc: Annotated[
        str | None, typer.Option("--rpc", envvar="REXIS_RPC", metavar="URL", help="The chain node to check models on.")
    ] = None,
    wallet: Annotated[
        Path | None,
        typer.Option(envvar="REXIS_WALLET", metavar="FILE", help="Sign in with it, and look the worker up."),
    ] = None,
    cache: Cache = None,
    memory: Annotated[
        float | None, typer.Option(min=0.5, metavar="GIB", help="Memory for keys and proofs. Default: what is free.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda:N", help="What models run on.")] = "auto",
    models: Annotated[
        str, typer.Option(metavar="NAME,…", help="Zoo models (`rexis zoo list`), by commas. Default: all.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Say what this machine can do as a worker: which models it can run and prove, and what stands in the way.

    Exit code 1 if something fails; warnings are not failures. Nothing is registered, leased or kept.
    """
    with needs("worker"):
        from provers.checkup import Grade
        from provers.device import Device
        from rexis.cli._workbench import Wanted, findings

    account = open_wallet(wallet, passphrase_file) if wallet is not None and coordinator is not None else None
    wanted = Wanted(
        coordinator=coordinator,
        rpc=rpc,
        account=account,
        cache=cache_folder(cache),
        memory_bytes=int(memory * (1 << 30)) if memory else None,
        device=Device.parse(device),
        models=names_of(models),
    )
    found = []
    for one in findings(wanted):
        found.append(one)
        if not as_json:
            say(f"{one.grade.value:<8}{one.what:<22} {one.says}" + (f" ({one.hint})" if one.hint else ""))
    if as_json:
        emit([{"what": one.what, "grade": one.grade.value, "says": one.says, "hint": one.hint} for one in found])
    if any(one.grade == Grade.FAIL for one in found):
        raise typer.Exit(1)


@app.command("bench")
def measure(
    models: Annotated[str, typer.Option(metavar="NAME,…", help="Zoo models to run, by commas. Default: all.")] = "",
    prove: Annotated[
        str, typer.Option(metavar="NAME,…", help="Zoo models to prove a record of, too; each has a tuned circuit.")
    ] = "",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Measure this machine: hashing, models on each device, and, for the named models, keys and a proof.

    What else runs on the machine changes the figures; ratios within one run change less. Keys stay in the cache.
    """
    with needs("worker"):
        from rexis.cli._workbench import figures

    found = []
    for one in figures(names_of(models), names_of(prove), cache_folder(cache)):
        found.append(one)
        if not as_json:
            beside = f"   {one.value / one.beside[1]:.2f} × {one.beside[0]}" if one.beside else ""
            say(f"{one.what:<44} {one.value:>12,.2f} {one.unit:<10}{beside}")
    if as_json:
        emit(
            [
                {
                    "what": one.what,
                    "value": one.value,
                    "unit": one.unit,
                    "beside": None if one.beside is None else {"what": one.beside[0], "value": one.beside[1]},
                }
                for one in found
            ]
        )


def names_of(text: str) -> tuple[str, ...]:
    """Names by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def cache_folder(given: Path | None) -> Path:
    """The folder of a worker's caches."""
    from platformdirs import user_cache_path

    return given or user_cache_path("rexis") / "worker"


def _the_one(found: list[WorkerStatus], folder: Path, name: str | None) -> WorkerStatus:
    fitting = [one for one in found if name is None or name in (one.name, str(one.address))]
    if not fitting:
        which = "no worker" if name is None else f"no worker {name}"
        raise NotFoundError(f"{which} runs with {folder}", hint="the folder is that of `rexis worker run --cache`")
    if len(fitting) > 1:
        names = ", ".join(f"{one.name} ({one.address})" for one in fitting)
        raise ConflictError(f"{len(fitting)} workers run with {folder}: {names}", hint="choose one: --name")
    return fitting[0]


def _same(found: list[WorkerStatus], told: WorkerStatus) -> WorkerStatus | None:
    return next((one for one in found if (one.pid, one.started_at) == (told.pid, told.started_at)), None)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise ConflictError(f"process {pid} is another user's", hint="run this as the worker's user") from None


def _show(one: WorkerStatus) -> None:
    rows = {
        "worker": f"{one.name} ({one.address}), process {one.pid}",
        "coordinator": one.coordinator,
        "state": f"{one.state}; started {one.started_at}",
        "computes on": f"{one.site} ({one.provider})",
        "memory": f"{one.taken_bytes >> 20} of {one.memory_bytes >> 20} MiB taken by set-up and proofs",
        "tasks": f"{len(one.tasks)} of {one.at_once} at a time; so far {_endings(one)}",
        "measured": f"{one.compute_ms / 1e3:.1f} s computing and {one.prove_ms / 1e3:.1f} s proving, accepted tasks",
    }
    for name, value in rows.items():
        say(f"{name:<12} {value}")
    for task in one.tasks:
        tier = task.tier.name.lower()
        say(f"  {task.name}, tier {tier}: {task.stage.value} {task.done}/{task.total}, since {task.since}")


def _endings(one: WorkerStatus) -> str:
    counts = [f"{count} {how.replace('_', ' ')}" for how, count in one.endings.to_object().items() if count]
    return ", ".join(counts) or "none ended"


def _tiers(text: str) -> tuple[Tier, ...]:
    from rexis.protocol.policy import Tier

    names = [name.strip() for name in text.split(",")]
    known = {tier.name.lower(): tier for tier in Tier}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--tiers")
    return tuple(known[name] for name in names)
