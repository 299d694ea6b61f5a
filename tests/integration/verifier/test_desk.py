"""How the auditor's desk is served. What the page does is tested in a browser: ``verifier/desk/e2e``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rexis.protocol.errors import UnavailableError
from verifier.service.app import create_app
from verifier.service.desk import desk_routes, example_routes
from verifier.service.settings import ServiceSettings

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
SOURCES = Path(__file__).parents[3] / "verifier/desk"


def serve(built: Path) -> TestClient:
    app = FastAPI()
    app.include_router(desk_routes(built))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><p>page", encoding="utf-8")
    (tmp_path / "desk.html").write_text("<!doctype html><p>alone", encoding="utf-8")
    (tmp_path / "assets/index-abc.js").write_text("1", encoding="utf-8")
    return tmp_path


def test_the_page_runs_no_script_but_its_own_and_asks_anew_whether_it_changed(built: Path) -> None:
    response = serve(built).get("/")
    assert response.text == "<!doctype html><p>page"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["cache-control"] == "no-cache"


def test_files_that_are_named_by_their_hash_are_kept_for_ever(built: Path) -> None:
    response = serve(built).get("/assets/index-abc.js")
    assert response.headers["content-type"].startswith("text/javascript")
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["content-security-policy"] == serve(built).get("/").headers["content-security-policy"]


def test_the_page_in_one_file_is_for_saving(built: Path) -> None:
    assert serve(built).get("/desk.html").headers["content-disposition"] == 'attachment; filename="desk.html"'


def test_both_pages_may_connect_to_the_same(built: Path) -> None:
    found = re.search(r'CONNECT = "(.*)"', (SOURCES / "build/one-file.mts").read_text(encoding="utf-8"))
    assert found is not None
    assert f"connect-src 'self' {found[1]};" in serve(built).get("/").headers["content-security-policy"]


def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    response = serve(tmp_path).get("/")
    assert response.status_code == 404
    assert "make setup" in response.text


def test_examples_are_listed_and_nothing_else_is_served() -> None:
    service = TestClient(create_app(ServiceSettings(examples=VECTORS)))
    listed = {each["name"]: each for each in service.get("/examples/").json()["examples"]}
    assert {"zk", "commit", "byte-changed_fail"} <= set(listed)
    assert listed["commit"]["artefacts"] == []
    (srs,) = listed["zk"]["artefacts"]
    assert service.get(f"/{listed['zk']['path']}").content == (VECTORS / "zk/certificate.json").read_bytes()
    assert service.get(f"/{srs}").content == (VECTORS / "artifacts" / srs.split("/")[-1]).read_bytes()
    for path in ("generate.py", "zk/case.json", "%2e%2e/README.md", "/etc/passwd", "zk/../zk/certificate.json/.."):
        assert service.get(f"/examples/{path}").status_code in (404, 405), path


def test_a_folder_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no certificate"):
        example_routes(tmp_path, 1 << 20)


def test_without_examples_the_list_is_empty() -> None:
    assert TestClient(create_app(ServiceSettings())).get("/examples/").json() == {"examples": []}
