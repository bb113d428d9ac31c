"""Reports of made runs: what is bold, missing and pooled; the files; the page in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfdistill_cli.reports.content import Chapter, Figure, Section, Table
from selfdistill_cli.reports.differences import compare, verdict
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


def compared(outputs: Path, task: str | None = None) -> Section:
    """The scores of the only study, or of that of a task."""
    return comparison.section(compare(study_of(outputs, task)))


def table(outputs: Path, name: str, task: str | None = None) -> dict[str, dict[str, str]]:
    """Cells by the first column and by the header; better ones have stars, worse ones a ▼."""
    chosen = next(p for p in compared(outputs, task).parts if isinstance(p, Table) and p.name == name)
    written = {"": "{}", "better": "*{}*", "worse": "{} ▼"}
    starred = [[written[cell.verdict].format(cell.text) for cell in row] for row in chosen.cells]
    return {row[0]: dict(zip(chosen.header, row, strict=True)) for row in starred}


def number(cell: str) -> float:
    """What a cell begins with."""
    return float(cell.strip("*").split()[0].replace("−", "-"))


def test_only_a_real_difference_is_bold(outputs: Path) -> None:
    # The made labels differ from draw to draw, but only what is right counts: they are paired by index.
    scores = table(outputs, "scores", "synth_entailment")
    assert scores["dynsdpb"]["accuracy"].startswith("*8")
    assert scores["dynsdpb"]["to vanilla"].startswith("*+")
    assert not any(cell.startswith("*") for cell in [*scores["static_sd"].values(), *scores["vanilla"].values()])
    tests = table(outputs, "tests", "synth_entailment")
    assert float(tests["dynsdpb"]["p (Holm)"].removeprefix("< ")) < 0.05
    assert float(tests["static_sd"]["p (Holm)"]) > 0.05


def test_a_study_has_rows_for_its_own_methods_alone(outputs: Path) -> None:
    assert list(table(outputs, "scores", "synth_similarity")) == ["vanilla"]


def test_scores_and_differences_are_those_of_the_runs(outputs: Path) -> None:
    groups = {group.variant: group for group in study_of(outputs, "synth_entailment").groups}
    ours, theirs = (100 * np.array(groups[name].scores) for name in ("static_sd", "vanilla"))
    row = table(outputs, "scores", "synth_entailment")["static_sd"]
    assert row["accuracy"] == f"{ours.mean():.1f} ± {ours.std(ddof=1):.1f}"
    assert number(row["to vanilla"]) == pytest.approx((ours - theirs).mean(), abs=0.051)
    assert row["seeds"] == "3"


def test_one_seed_is_never_bold(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", accuracy=0.5, examples=300)
    make_run(tmp_path, "method=dynsdpb", accuracy=0.9, examples=300)
    assert table(tmp_path, "tests")["dynsdpb"]["p (Holm)"] == "one seed"
    row = table(tmp_path, "scores")["dynsdpb"]
    assert not row["accuracy"].startswith("*")
    assert row["to vanilla"].endswith(" (one seed)")


def test_what_is_significantly_worse_is_marked_as_worse_wherever_it_is_written(tmp_path: Path) -> None:
    for seed in SEEDS:
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.9, examples=300)
        make_run(tmp_path, f"seed={seed}", "method=kd", accuracy=0.6, examples=300, draw=1)
    row = table(tmp_path, "scores")["kd"]
    assert row["accuracy"].endswith(" ▼")
    assert re.fullmatch(r"−\d\d\.\d \(−\d\d\.\d to −\d\d\.\d\) ▼", row["to vanilla"])
    found = compared(tmp_path)
    (scores,) = (part for part in found.parts if isinstance(part, Table) and part.name == "scores")
    assert "▼: worse" in scores.caption
    score = r"\d\d\.\d ± \d\.\d"
    assert re.search(rf"^kd,{score} ▼,", csv_table(scores), re.MULTILINE)
    assert re.search(r"^kd & \d\d\.\d \$\\pm\$ \d\.\d \$\\downarrow\$ &", latex_table(scores), re.MULTILINE)
    assert "textbf" not in latex_table(scores)
    text = markdown("", [Chapter("", "", [found])])
    assert re.search(rf"^\| kd \| {score} ▼ \|", text, re.MULTILINE)
    assert "**" not in text
    pictures = {part.name: "<svg></svg>" for part in found.parts if isinstance(part, Figure)}
    html = page("", [Chapter("", "", [found])], pictures)
    assert "<strong>" not in html
    # its score, its difference to either baseline, which are one, and that again with its p-value
    assert html.count('aria-label="significantly worse"') == 4


def test_vanilla_at_equal_compute_is_another_baseline(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.6, passes=1)
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.7, draw=1, passes=2, examples_forwarded=600)
        make_run(tmp_path, f"seed={seed}", "method=dynsdpb", accuracy=0.7, draw=2, passes=1, examples_forwarded=597)
    scores = table(tmp_path, "scores")
    plain, matched = (number(scores[name]["accuracy"]) for name in ("vanilla", "vanilla (passes=2)"))
    mine, row = number(scores["dynsdpb"]["accuracy"]), scores["dynsdpb"]
    assert number(row["to vanilla"]) == pytest.approx(mine - plain, abs=0.21)
    assert number(row["to vanilla at equal compute"]) == pytest.approx(mine - matched, abs=0.21)
    assert abs(plain - matched) > 2  # the two baselines cannot be mistaken for each other
    assert scores["vanilla (passes=2)"]["to vanilla at equal compute"] == scores["vanilla"]["to vanilla"] == "–"
    assert [scores[name]["compute"] for name in scores] == ["1×", "2×", "2×"]


def test_the_examples_of_a_teacher_are_counted(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", examples_forwarded=300)
    make_run(tmp_path, "method=kd", examples_forwarded=300, teacher={"key": "another", "examples_forwarded": 200})
    assert table(tmp_path, "scores")["kd"]["compute"] == "1.7×"


def test_one_comparison_in_two_columns_is_one_test(tmp_path: Path) -> None:
    for seed in SEEDS:  # of kd, plain vanilla is the baseline at equal compute as well
        make_run(tmp_path, f"seed={seed}", "method=vanilla", accuracy=0.6)
        make_run(tmp_path, f"seed={seed}", "method=kd", accuracy=0.65, draw=1)
    row = table(tmp_path, "scores")["kd"]
    assert row["to vanilla"] == row["to vanilla at equal compute"]
    tests = table(tmp_path, "tests")["kd"]
    assert tests["p"] == tests["p (Holm)"]


def test_what_is_the_same_for_all_is_said_once(tmp_path: Path) -> None:
    for lr in ("1e-4", "2e-4"):
        make_run(tmp_path, f"schedule.lr={lr}", majority={"label": "a", "score": 0.525})
    words = compared(tmp_path).words
    assert "batch size 16" in words
    assert "learning rate" not in words
    assert "Always 'a' would score 52.5." in words
    assert "The epoch was chosen on the reported split" in words


def test_a_choice_of_the_epoch_elsewhere_is_no_matter_for_a_note(tmp_path: Path) -> None:
    make_run(tmp_path, selected_on="held_out")
    assert "reported split" not in compared(tmp_path).words


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
    assert [verdict(rise, 0.01, metric) for metric in ("mse", "accuracy")] == ["worse", "better"]
    assert verdict(rise, 0.2, "mse") == ""


def test_where_two_curves_part_for_good() -> None:
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
    first, left = chapters(find_runs([tmp_path]))
    assert first.words == "one run, none of them finished. The others: one interrupted."
    assert left.sections[0].title == "Not finished"


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_command_says_what_it_wrote_and_what_is_wrong(outputs: Path, tmp_path: Path) -> None:
    def call(*words: str) -> Finished:
        return run_command(tmp_path, user_environment(tmp_path), *words, module=SDREPORT)

    written = call(str(outputs), "--out", str(tmp_path / "r"), "--where", "method.name=static_sd,kd")
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
