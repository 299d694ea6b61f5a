"""The report of ``rexis bench``: every figure is on the page, and the page needs nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench.costs import figures
from bench.costs.document import FORMAT, document
from bench.costs.page import page
from bench.costs.published import PUBLISHED
from bench.costs.result import Check, Outcome, Report, Spread
from bench.costs.svg import Log, spaced
from bench.costs.tables import checks, published, tables
from bench.costs.terminal import lines
from tests.unit.bench.sample_report import model, sample_report

_VOID = {"meta", "br"}
# Whatever makes a browser fetch something, or run it. A link that a person follows is none.
_LOADING = {"script", "link", "img", "image", "iframe", "object", "embed", "use", "base", "video", "audio", "source"}


class Page(HTMLParser):
    """What a browser would see: text, and elements that are closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def report() -> Report:
    return sample_report()


def test_the_page_is_well_formed_and_has_all_its_plots(report: Report) -> None:
    seen = Page(page(report))
    assert seen.open == []
    drawings = [attributes for tag, attributes in seen.elements if tag == "svg"]
    assert len(drawings) == 4
    assert all(each["role"] == "img" and each["aria-label"] for each in drawings)


def test_the_page_loads_nothing_and_runs_nothing(report: Report) -> None:
    text = page(report)
    for tag, attributes in Page(text).elements:
        assert tag not in _LOADING
        assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in attributes)
        assert tag == "a" or "href" not in attributes
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "@font-face" not in style


def test_every_figure_is_on_the_page(report: Report) -> None:
    text = "".join(Page(page(report)).text)
    for table in (*tables(report), checks(report), published()):
        for row in table.rows:
            assert len(row) == len(table.head)
            for cell in row:
                assert cell in text, (table.name, cell)


def test_the_page_names_machine_command_commit_and_warns_of_the_development_srs(report: Report) -> None:
    text = "".join(Page(page(report)).text)
    for said in ("A processor & more", "rexis bench", "0123456789ab", "ezkl 23.0.5", "2026-11-28", "development SRS"):
        assert said in text


def test_a_wrong_result_stands_above_the_figures(report: Report) -> None:
    wrong = Check("breast_cancer", "a proof holds", Outcome.FAILED, "it does <not>")
    text = page(replace(report, checks=[*report.checks, wrong]))
    assert "do not use these figures" in text
    assert "do not use these figures" not in page(report)
    assert "1 results were checked in this run and are right; 1 could not be checked" in page(report)
    assert "it does &lt;not&gt;" in text
    assert "it does <not>" not in text


def test_published_figures_stand_apart(report: Report) -> None:
    cells = {cell for table in tables(report) for row in table.rows for cell in row}
    for each in PUBLISHED:
        assert each.url.startswith("https://")
        assert each.hardware
        assert not any(each.system in cell or each.figures in cell for cell in cells)
    assert "not comparable" in published().note
    written = document(report)
    assert "published" not in json.dumps({name: value for name, value in written.items() if name != "published"})


def test_json_has_what_was_measured(report: Report) -> None:
    written = json.loads(json.dumps(document(report)))
    assert written["format"] == FORMAT
    first = written["models"][0]
    assert first["circuit"]["evmGas"] == 891_224
    assert first["tiers"][1]["prove"] == {"median": 0.67, "low": 0.67 * 0.9, "high": 0.67 * 1.2, "runs": 3}
    assert first["tiers"][4]["basis"] == "computed from 5 measured proofs"
    cost = report.models[0].tiers[1]
    assert first["tiers"][1]["overheadS"] == pytest.approx(
        cost.commitment.median + cost.witness.median + cost.prove.median  # type: ignore[union-attr]
    )
    assert written["chain"]["anchors"][4]["gasPerTask"] == 74_041 / 256
    assert written["versions"]["ezkl"] == "23.0.5"


def test_the_terminal_shows_every_model_and_peer(report: Report) -> None:
    text = "\n".join(lines(report))
    for name in ("breast_cancer", "diabetes", "dna", "peptide", "re-execution", "ezkl, as documented"):
        assert name in text
    assert "CKKS (TenSEAL), breast_cancer: not measured: tenseal is not <installed>" in text
    assert "1 results checked and right, 0 wrong, 1 not checked" in text


def test_a_report_of_tier_commit_alone_can_be_drawn(report: Report) -> None:
    bare = replace(
        report, models=[model("ecg", 13_000, 0.003, None)], chain=None, no_chain="no anvil", peers=[], checks=[]
    )
    seen = Page(page(bare))
    assert sum(tag == "svg" for tag, _ in seen.elements) == 3
    assert "no anvil" in "".join(seen.text)
    assert "no anvil" in "\n".join(lines(bare))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Spread(0.67, 0.61, 0.8, 3), "670 ms (610–800)"),
        (Spread(2.5e-5, 1e-6, 1e-3, 9), "25 µs (1–1,000)"),
        (Spread.of([90.0]), "1.5 min"),
        (Spread.computed(12.0), "≈ 12 s"),
        (None, "–"),
    ],
)
def test_times(value: Spread | None, text: str) -> None:
    assert figures.spread(value) == text


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (4163, "4.16 kB"), (22_000_001, "22 MB"), (None, "–")])
def test_sizes(size: int | None, text: str) -> None:
    assert figures.size(size) == text


def test_a_spread_is_least_and_largest_or_quartiles_of_many_runs() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    many = Spread.of([*range(1, 20), 10_000.0])
    assert (many.median, many.runs) == (10.5, 20)
    assert 4 < many.low < many.median < many.high < 17


def test_a_logarithmic_axis_ends_at_powers_of_ten() -> None:
    axis = Log.over([0.03, 4.0], 100, 300)
    assert axis.ticks == [0.01, 0.1, 1.0, 10.0]
    assert axis.at(0.01) == 100
    assert axis.at(10.0) == pytest.approx(300)
    assert axis.at(0.0) == 100


def test_labels_are_moved_apart() -> None:
    assert spaced([10, 12, 40], 15) == [10, 25, 40]
