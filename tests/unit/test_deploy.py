"""What is in deploy/ names settings, files, ports and options that are there. Nothing is started."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from coordinator.settings import Settings
from rexis.cli.main import app
from rexis.files import require_private
from rexis.protocol.errors import KeyFileError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = {f"REXIS_{name.upper()}" for name in Settings.model_fields}
ELSEWHERE = {"REXIS_LOG_FORMAT", "REXIS_SECRETS_DIR", "REXIS_TRACES"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def variables(*command: str) -> set[str]:
    """Environment variables of a command's options."""
    found: Any = get_command(app)
    for name in command:
        found = found.commands[name]
    names = (option.envvar for option in found.params if option.envvar)
    return {name for entry in names for name in ([entry] if isinstance(entry, str) else entry)} | {
        "REXIS_PASSPHRASE_FILE"
    }


def options(*command: str) -> set[str]:
    found: Any = get_command(app)
    for name in command:
        found = found.commands[name]
    return {flag for option in found.params for flag in option.opts}


def rexis_variables(names: Any) -> set[str]:
    return {name for name in names if name.startswith("REXIS_")}


def test_variables_are_settings(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("coordinator-1", "coordinator-2"):
        assert rexis_variables(services[name]["environment"]) <= SETTINGS | ELSEWHERE
    assert rexis_variables(services["worker"]["environment"]) <= variables("worker", "run") | ELSEWHERE
    secrets = {name.upper() for name in compose["secrets"] if name.startswith("rexis_")}
    assert secrets <= SETTINGS


def test_files_and_targets_are_there(compose: dict[str, Any]) -> None:
    for config in compose["configs"].values():
        if "${" not in config["file"]:
            assert (DEPLOY / config["file"]).is_file(), config
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume
    stages = re.findall(r"^FROM \S+ AS (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    built = {service["build"]["target"] for service in compose["services"].values() if "build" in service}
    assert built == {"coordinator", "worker"} <= set(stages)


def test_the_image_holds_every_package_and_only_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    text = (DEPLOY / "Dockerfile").read_text()
    assert set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE)) == packages
    extras = {extra for found in re.findall(r"'\.\[([\w,-]+)\]'", text) for extra in found.split(",")}
    assert extras <= project["project"]["optional-dependencies"].keys()


def test_services_are_pinned_and_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "build" in service or re.search(r":[\w.-]*\d[\w.-]*$", service["image"]), name
        published = service.get("ports", [])
        assert name == "proxy" or all(port.startswith("127.0.0.1:") for port in published), name
        assert set(service.get("secrets", [])) <= compose["secrets"].keys(), name
        assert set(service["networks"]) <= compose["networks"].keys(), name


def test_prometheus_scrapes_the_ports_that_are_served(compose: dict[str, Any]) -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    jobs = prometheus["scrape_configs"]
    targets = {target for job in jobs for one in job["static_configs"] for target in one["targets"]}
    services = compose["services"]
    names = [name for name in services if name.startswith(("coordinator", "worker"))]
    assert targets == {f"{name}:{services[name]['environment']['REXIS_METRICS_PORT']}" for name in names}


def test_the_proxy_passes_what_the_coordinator_takes() -> None:
    text = (DEPLOY / "compose/Caddyfile").read_text()
    assert "health_uri /readyz" in text
    assert f"max_size {Settings.model_fields['max_blob_bytes'].default >> 30}GB" in text


def test_aws_keys_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a secret\n")
    show = 'printf "%s|%s" "$AWS_SECRET_ACCESS_KEY" "${AWS_ACCESS_KEY_ID:-none}"'
    done = subprocess.run(
        [DEPLOY / "compose/entrypoint.sh", "sh", "-c", show],
        env={"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "key")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "a secret|none"


@pytest.mark.parametrize("unit", ["rexis-coordinator@.service", "rexis-worker@.service"])
def test_units_name_what_is_there(unit: str) -> None:
    text = (DEPLOY / "systemd" / unit).read_text()
    (command,) = re.findall(r"^ExecStart=/opt/rexis/bin/rexis (.*)$", text, re.MULTILINE)
    role = command.split()[0]
    assert {part for part in command.split() if part.startswith("--")} <= options(role, "run")
    named = set(re.findall(r"(REXIS_\w+)=", text))
    assert named <= (SETTINGS if role == "coordinator" else variables("worker", "run")) | ELSEWHERE
    credentials = set(re.findall(r"^LoadCredential=([\w.]+):", text, re.MULTILINE))
    used = set(re.findall(r"%d/([\w.]+)", text)) | {name for name in credentials if name.upper() in SETTINGS}
    assert credentials == used


def test_a_setting_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rexis_database_url").write_text("sqlite:///elsewhere.db\n")
    (tmp_path / "rexis_passphrase").write_text("secret\n")
    monkeypatch.setenv("REXIS_SECRETS_DIR", str(tmp_path))
    settings = Settings.load()
    assert settings.database == "sqlite:///elsewhere.db"
    assert settings.passphrase is not None and settings.passphrase.get_secret_value() == "secret"
    monkeypatch.setenv("REXIS_DATABASE_URL", "sqlite:///variable.db")
    assert Settings.load().database == "sqlite:///variable.db"


def test_only_systemds_own_folder_may_have_files_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").mkdir()
    credential, other = tmp_path / "credentials/wallet.json", tmp_path / "wallet.json"
    for path in (credential, other):
        path.write_text("{}")
        path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    require_private(credential, "wallet")
    with pytest.raises(KeyFileError):
        require_private(other, "wallet")


# --- the dashboard ---------------------------------------------------------------------------------------------------


def test_the_dashboard_is_one_that_grafana_lays_out() -> None:
    dashboard = json.loads((DEPLOY / "grafana/rexis.json").read_text())
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {"uid", "title", "schemaVersion", "time", "panels", "templating", "annotations"} <= dashboard.keys()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"]["uid"] in {source["uid"] for source in sources}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
