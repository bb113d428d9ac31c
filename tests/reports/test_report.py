"""Reports of made runs: what is bold, missing and pooled; the files; the page in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from selfdistill_cli.reports.content import Chapter, Figure, Table
from selfdistill_cli.reports.latex import latex_table
from selfdistill_cli.reports.panels import Cells
from selfdistill_cli.reports.report import chapters, write_report
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.sections import comparison, learning, sensitivity
from selfdistill_cli.reports.statistics import Difference
from selfdistill_cli.reports.writing import csv_table, markdown, page
from tests.helpers.made_runs import make_run, study_of
from tests.helpers.processes import SDREPORT, Finished, run_command, user_environment

pytestmark = pytest.mark.thorough

SEEDS = range(3)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla, one method far better, one as good, a sweep, gradients and single examples; a damaged run."""
    folder = tmp_path_factory.mktemp("outputs")
    gradients = [
        {
            "kind": "gradients",
            "step": s,
            "epoch": s / 10,
            "norm/embeddings": 1.0,
            "norm/layer 0": 0.1 * s,
            "norm/layer 1": 1.0,
        }
        for s in range(1, 31)
    ]
    weaker = [{**row, "norm/layer 1": 0.5} for row in gradients]
    trains = [
        {"kind": "train", "step": s, "epoch": s / 10, "loss": 2.0, "loss/ce": 1.0}
        | {
            f"{n}/{k}": 0.5
            for n in ("uncertainty", "discrimination", "tau", "alpha")
            for k in ("mean", "p10", "p50", "p90")
        }
        for s in range(1, 31)
    ]
    singles = [
        {"kind": "examples", "step": s, "epoch": s / 10, "examples": [1, 2], "tau": [1.0, 2.0], "alpha": [0.5, 0.6]}
        for s in range(1, 31)
    ]
    for seed in SEEDS:
        at = f"seed={seed}"
        make_run(folder, "method=vanilla", at, accuracy=0.6, examples=300, rows=gradients)
        make_run(
            folder,
            "method=vanilla",
            at,
            "task=synth_similarity",
            "task.kind=classification",
            accuracy=0.6,
            examples=300,
        )
        make_run(folder, "method=dynsdpb", at, accuracy=0.85, examples=300, draw=1, rows=[*weaker, *trains, *singles])
        make_run(folder, "method=static_sd", at, accuracy=0.6, examples=300, draw=2)
        for lambda_ in (1, 2, 3):
            for alpha in (0.3, 0.5):
                make_run(folder, "method=dcs", at, f"method.lambda_={lambda_}", f"method.alpha={alpha}", accuracy=0.6, draw=3)  # fmt: skip
    (make_run(folder, "method=kd") / "results.json").write_text("{")
    return folder


def table(outputs: Path, name: str) -> dict[tuple[str, ...], list[str]]:
    """Cells by the first column (and, of differences, the second); better ones have stars, worse ones a ▼."""
    found = comparison.section(study_of(outputs, "synth_entailment"))
    assert found is not None
    chosen = next(part for part in found.parts if isinstance(part, Table) and part.name == name)
    keys = 2 if name.startswith("differences") else 1
    written = {"": "{}", "better": "*{}*", "worse": "{} ▼"}
    starred = [[written[cell.verdict].format(cell.text) for cell in row] for row in chosen.cells]
    return {tuple(row[:keys]): row[keys:] for row in starred}


def test_only_a_real_difference_is_bold(outputs: Path) -> None:
    # The made labels differ from draw to draw, but only what is right counts: they are paired by index.
    scores = table(outputs, "scores")
    assert scores["dynsdpb",][0].startswith("*0.8")
    assert not any(cell.startswith("*") for cell in [*scores["static_sd",], *scores["vanilla",]])
    differences = table(outputs, "differences-vanilla")
    baseline, difference, *_, corrected = differences["dynsdpb", "synth_entailment"]
    assert baseline == "vanilla"
    assert difference.startswith("*+")
    assert float(corrected.removeprefix("< ")) < 0.05
    assert float(differences["static_sd", "synth_entailment"][-1]) > 0.05


def test_a_study_has_rows_for_its_own_methods_alone(outputs: Path) -> None:
    found = comparison.section(study_of(outputs, "synth_similarity"))
    assert found is not None
    (scores,) = (part for part in found.parts if isinstance(part, Table) and part.name == "scores")
    assert [row[0].text for row in scores.cells] == ["vanilla"]


def test_one_seed_is_never_bold(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", accuracy=0.5, examples=300)
    make_run(tmp_path, "method=dynsdpb", accuracy=0.9, examples=300)
    assert table(tmp_path, "differences-vanilla")["dynsdpb", "synth_entailment"][-1] == "one seed"
    assert not table(tmp_path, "scores")["dynsdpb",][0].startswith("*")


def test_what_is_significantly_worse_is_marked_as_worse_wherever_it_is_written(tmp_path: Path) -> None:
    for seed in SEEDS:
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.9, examples=300)
        make_run(tmp_path, f"seed={seed}", "method=kd", accuracy=0.6, examples=300, draw=1)
    assert table(tmp_path, "scores")["kd",][0].endswith(" ▼")
    difference = table(tmp_path, "differences-vanilla")["kd", "synth_entailment"][1]
    assert re.fullmatch(r"-0\.\d{4} ▼", difference)
    found = comparison.section(study_of(tmp_path))
    assert found is not None
    assert "▼: worse" in found.words
    (scores,) = (part for part in found.parts if isinstance(part, Table) and part.name == "scores")
    score = r"0\.\d{4} ± 0\.\d{4} \(3\)"
    assert re.search(rf"^kd,{score} ▼,", csv_table(scores), re.MULTILINE)
    assert re.search(r"^kd & 0\.\d{4} \$\\pm\$ 0\.\d{4} \(3\) \$\\downarrow\$ &", latex_table(scores), re.MULTILINE)
    assert "textbf" not in latex_table(scores)
    text = markdown("", [Chapter("", "", [found])])
    assert re.search(rf"^\| kd \| {score} ▼ \|", text, re.MULTILINE)
    assert "**" not in text
    html = page("", [Chapter("", "", [found])], {})
    assert "<strong>" not in html
    assert html.count('aria-label="significantly worse"') == 3  # its score, and its difference to either baseline


def test_vanilla_at_equal_compute_is_another_baseline(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.6, passes=1)
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.7, draw=1, passes=2, examples_forwarded=600)
        make_run(tmp_path, f"seed={seed}", "method=dynsdpb", accuracy=0.7, draw=2, passes=1, examples_forwarded=597)
    differences = {name: table(tmp_path, f"differences-{name}") for name in ("vanilla", "equal-compute")}
    assert set(differences["vanilla"]) == {(v, "synth_entailment") for v in ("dynsdpb", "vanilla (passes=2)")}
    assert set(differences["equal-compute"]) == {("dynsdpb", "synth_entailment")}
    to_vanilla = differences["vanilla"]["dynsdpb", "synth_entailment"]
    to_matched = differences["equal-compute"]["dynsdpb", "synth_entailment"]
    assert (to_vanilla[0], to_matched[0]) == ("vanilla", "vanilla (passes=2)")
    scores = {name: float(cells[0].split()[0]) for (name,), cells in table(tmp_path, "scores").items()}
    plain, matched = (scores[name] for name in ("vanilla", "vanilla (passes=2)"))
    assert float(to_vanilla[1]) == pytest.approx(scores["dynsdpb"] - plain, abs=2e-4)
    assert float(to_matched[1]) == pytest.approx(scores["dynsdpb"] - matched, abs=2e-4)


def test_one_comparison_in_two_tables_is_one_test(tmp_path: Path) -> None:
    for seed in SEEDS:  # of kd, plain vanilla is the baseline at equal compute as well
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.6)
        make_run(tmp_path, f"seed={seed}", "method=kd", accuracy=0.65, draw=1)
    one, other = (
        table(tmp_path, f"differences-{name}")["kd", "synth_entailment"] for name in ("vanilla", "equal-compute")
    )
    assert one == other
    assert one[-1] == one[-2]  # p and Holm's p


def test_a_sweep_gives_its_heat_map_and_best_setting(outputs: Path) -> None:
    found = sensitivity.section(study_of(outputs, "synth_entailment"))
    assert found is not None
    (figure,) = (part for part in found.parts if isinstance(part, Figure))
    assert [type(panel) for panel in figure.panels] == [Cells]
    best = next(part for part in found.parts if isinstance(part, Table))
    assert best.cells[0][1].text == "6"


def test_of_an_error_the_smaller_mean_is_the_best_cell_and_a_rise_is_worse(tmp_path: Path) -> None:
    for lambda_, accuracy in ((1, 0.9), (2, 0.5)):
        make_run(tmp_path, "method=dcs", f"method.lambda_={lambda_}", accuracy=accuracy, metric="mse")
    study = study_of(tmp_path)
    groups = study.groups
    of_lambda = {group.settings["method.lambda_"]: group.scores[0] for group in groups}
    assert of_lambda[2] < of_lambda[1]
    found = sensitivity.section(study)
    assert found is not None
    (table,) = (part for part in found.parts if isinstance(part, Table))
    assert table.cells[0][2].text == "lambda=2"
    rise = Difference(0.1, 1e-6, 100, 3)
    assert [comparison.verdict(rise, 0.01, metric) for metric in ("mse", "accuracy")] == ["worse", "better"]
    assert comparison.verdict(rise, 0.2, "mse") == ""


def test_where_two_curves_part_for_good() -> None:
    import numpy as np

    places = np.array([0.0, 1.0, 2.0, 3.0])
    assert learning._stays(places, np.array([True, False, True, True])) == "2.00"
    assert learning._stays(places, np.array([True, True, True, True])) == "0.00"
    assert learning._stays(places, np.array([True, True, True, False])) == "never"


@pytest.fixture(scope="module")
def written(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of these runs."""
    folder = tmp_path_factory.mktemp("report")
    write_report(find_runs([outputs]), "made <runs>", folder)
    return folder


def test_every_part_of_a_report_is_written(outputs: Path, written: Path) -> None:
    page = (written / "index.html").read_text()
    assert "made &lt;runs&gt;" in page
    assert not re.search(r"(src|href)=[\"']?(http|//|file:|/)", page)
    assert "<script" not in page
    assert "damaged" in page
    sections = [section for one in chapters(find_runs([outputs])) for section in one.sections]
    names = [part.name for one in sections for part in one.parts if not isinstance(part, str)]
    assert len(names) == len(set(names)), "two parts would write the same file"
    files = [
        path.stem
        for folder, end in (("figures", "svg"), ("tables", "tex"))
        for path in (written / folder).glob(f"*.{end}")
    ]
    assert sorted(files) == sorted(names)
    assert {path.stem for folder in ("figures", "tables") for path in (written / folder).glob("*.csv")} == set(names)
    assert "| dynsdpb |" in (written / "report.md").read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "identifiers of two figures collide"


def test_tables_in_latex_and_csv_say_the_same() -> None:
    made = Table("t", "100 % of α_i", ["a_b", "c"], [["x & y", "0.5 ± 0.1"]])
    assert r"x \& y & 0.5 $\pm$ 0.1 \\" in latex_table(made)
    assert r"100 \% of $\alpha$\_i" in latex_table(made)
    assert csv_table(made).splitlines() == ["a_b,c", "x & y,0.5 ± 0.1"]


def test_no_finished_run_gives_a_report_that_says_so(tmp_path: Path) -> None:
    (make_run(tmp_path) / "results.json").unlink()
    (only,) = chapters(find_runs([tmp_path]))
    assert "1 interrupted" in only.sections[0].words


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_command_says_what_it_wrote_and_what_is_wrong(outputs: Path, tmp_path: Path) -> None:
    def call(*words: str) -> Finished:
        return run_command(tmp_path, user_environment(tmp_path), *words, module=SDREPORT)

    written = call(str(outputs), "--out", str(tmp_path / "r"), "--where", "method.name=static_sd")
    assert written.code == 0, written.err
    assert "4 runs: 3 finished, 1 damaged (what did not finish is listed in the report)" in written.out
    assert (tmp_path / "r" / "index.html").is_file()
    (tmp_path / "empty").mkdir()
    nothing = call(str(tmp_path / "empty"))
    assert nothing.code == 1
    assert nothing.err.startswith("sdreport: there is no run below")


# --- the page in a browser -----------------------------------------------------------------------

CHROMIUM = shutil.which("chromium")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium (apt-get install chromium)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_offline_and_nothing_overflows(scheme: str, width: int, written: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        wanted: list[str] = []
        page.on("request", lambda request: wanted.append(request.url))
        page.goto(f"file://{written}/index.html")
        picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        # Only what scrolls by itself may be wider than the page.
        outside = page.evaluate(
            """[...document.querySelectorAll('body *')].filter(e => !e.closest('.table')
               && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName)"""
        )
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        drawn = page.evaluate("document.querySelectorAll('figure svg').length")
        browser.close()
    assert wanted == [f"file://{written}/index.html"]
    assert overflow <= 0
    assert outside == []
    assert contrast(ink, paper) > 7  # WCAG AAA
    assert drawn >= 5
    assert len(picture) > 20_000


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        parts = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
