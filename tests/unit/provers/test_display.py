"""Plain lines where nobody looks, a bar where somebody does."""

from __future__ import annotations

import io
import logging

from rich.console import Console

from provers.display import PlainDisplay, RichDisplay, log, show
from rexis.api import Stage


def test_a_log_file_gets_one_line_a_stage() -> None:
    out = io.StringIO()
    with show(Console(file=out)) as display:
        assert isinstance(display, PlainDisplay)
        for done in range(3):
            display.stage("records 0–7", Stage.PROVE, done, 3)
        display.stage("records 0–7", Stage.UPLOAD, 0, 3)
    lines = out.getvalue().splitlines()
    events = [line.split(" INFO rexis.worker ")[1] for line in lines]
    assert events == [
        "records 0–7: prove 0/3",
        "records 0–7: upload 0/3",
    ]


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    with show(Console(file=out, force_terminal=True, width=80)) as display:
        assert isinstance(display, RichDisplay)
        display.stage("records 0–7", Stage.PROVE, 1, 3)
        log.info("hello")
        display.done("records 0–7")
    assert "hello" in out.getvalue()
    assert logging.getLogger("rexis.worker").handlers == []
