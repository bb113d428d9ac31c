"""Methods are compared at equal cost: by examples forwarded, or by operations; teachers included."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.compute import EXAMPLES, FLOPS, counted_in, forwarded
from selfdistill_cli.reports.report import chapters
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.variants import Study
from tests.helpers.made_runs import make_run


def made(outputs: Path, *overrides: str, forward: int, flops: int | None, passes: float | None = None) -> None:
    total = {"forward": forward, "backward": forward, "tokens": 10 * forward} | (
        {} if flops is None else {"flops": flops}
    )
    make_run(outputs, *overrides, passes=passes, compute={"training": total, "total": total})


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """kd forwards as many examples as vanilla with two passes, most of them without a gradient: two thirds of its work."""
    made(tmp_path, "method=vanilla", forward=300, flops=3_000)
    made(tmp_path, "method=vanilla", forward=450, flops=4_500, passes=1.5)
    made(tmp_path, "method=vanilla", forward=600, flops=6_000, passes=2)
    made(tmp_path, "method=kd", forward=594, flops=4_400)
    return tmp_path


def study(outputs: Path, unit: str) -> Study:
    (only,) = gather(counted_in(find_runs([outputs]), unit)).studies
    return only


@pytest.mark.parametrize(("unit", "passes", "ratio"), [(EXAMPLES, 2, 1.98), (FLOPS, 1.5, 4400 / 3000)])
def test_the_baseline_at_equal_compute_goes_by_what_cost_is_counted_in(
    outputs: Path, unit: str, passes: float, ratio: float
) -> None:
    found = study(outputs, unit)
    (kd,) = (group for group in found.groups if group.first.method == "kd")
    plain, matched = found.baseline(kd), found.equal_compute_baseline(kd)
    assert plain is not None
    assert matched is not None
    assert matched.settings["method.passes"] == passes
    assert kd.compute / plain.compute == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("unit", "words", "of_kd"), [(EXAMPLES, "examples forwarded", "2×"), (FLOPS, "operations", "1.5×")]
)
def test_the_table_says_what_a_method_cost_beside_vanilla(outputs: Path, unit: str, words: str, of_kd: str) -> None:
    made_chapters = chapters(counted_in(find_runs([outputs]), unit))
    tables = [p for c in made_chapters for s in c.sections for p in s.parts if not isinstance(p, str)]
    scores = next(table for table in tables if table.name.endswith("scores"))
    assert words in scores.caption
    rows = {str(row[0]): row[-1] for row in scores.rows}  # type: ignore[union-attr]
    assert rows["kd"] == of_kd
    assert rows["vanilla"] == "1×"


def test_a_run_of_an_earlier_version_is_counted_by_what_it_knows_and_refused_by_operations(tmp_path: Path) -> None:
    assert forwarded({"examples_forwarded": 300, "teacher": {"key": "k", "examples_forwarded": 200}}) == 500
    assert forwarded({"examples_forwarded": 300}) == 300
    made(tmp_path, "method=vanilla", forward=300, flops=3_000)
    made(tmp_path, "method=kd", forward=600, flops=None)
    with pytest.raises(UserError, match=r"--match flops: operations were not counted in 1 of these runs.*/kd/"):
        counted_in(find_runs([tmp_path]), FLOPS)
