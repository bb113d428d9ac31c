"""Figures as data and as pictures: what is in the CSV is what is drawn, looks differ, scales start from the noise."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from selfdistill_cli.reports import drawing, plates
from selfdistill_cli.reports.content import Figure
from selfdistill_cli.reports.panels import Cells, Curves, Intervals, Line, Look, Mark, Panel, csv_of, legend
from selfdistill_cli.reports.plotting import INK, line_style, wrapped

X = np.linspace(0, 3, 30)
CURVES = Curves(
    "a <b> & $c$", "epoch", "", [Line("one", Look(0), X, X / 3, X / 3 - 0.1, X / 3 + 0.1), Line("two", Look(1), X, X / 6)], share=True
)  # fmt: skip
CELLS = Cells("cells", "tau", "alpha", ["0.5", "1"], ["1", "2", "4"], np.array([[60, 61, np.nan], [62, 63, 64.0]]),
              [["60", "61", ""], ["62", "63", "64"]])  # fmt: skip
INTERVALS = Intervals(
    "rules",
    "difference in points, 95 % interval, 2 seeds",
    [Mark("a rule of many words that go on", Look(2), 70, 69, 71, (69.5, 70.5)), Mark("b", Look(2), 72)],
)
PANELS: list[Panel] = [CURVES, CELLS, INTERVALS]


def test_the_csv_has_every_point_that_is_drawn() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(PANELS))))
    one = [row for row in rows if row["line"] == "one"]
    assert np.allclose(
        [[float(row["epoch"]), float(row["low"])] for row in one], np.stack([X, X / 3 - 0.1], 1), atol=1e-5
    )
    cells = {(row["alpha"], row["tau"]): float(row["value"]) for row in rows if row["panel"] == "cells"}
    assert cells == {("0.5", "1"): 60, ("0.5", "2"): 61, ("1", "1"): 62, ("1", "2"): 63, ("1", "4"): 64}
    marks = [(row["row"], row["mark"]) for row in rows if row["panel"] == "rules"]
    assert marks == [("a rule of many words that go on", mark) for mark in ("", "one seed", "one seed")] + [("b", "")]


def test_no_two_looks_are_alike_and_methods_differ_without_colour() -> None:
    looks = [Look(method, setting) for method in range(37) for setting in range(8)]
    styles = {tuple(sorted(line_style(look).items())) for look in looks}
    assert len(styles) == len(looks)
    assert len({line_style(Look(method))["marker"] for method in range(7)}) == 7


def test_pictures_are_standalone_alike_each_time_and_together_in_one_file() -> None:
    svgs = drawing.pictures(PANELS, "name")
    assert svgs == drawing.pictures(PANELS, "name")
    assert len(svgs) == 4  # with the legend of the two lines
    for svg in [*svgs, drawing.together(svgs)]:
        ElementTree.fromstring(svg)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svgs[0])
    assert "a &lt;b&gt; &amp; $c$" in texts
    both = drawing.together(svgs[:3])
    identifiers = re.findall(r'\bid="([^"]+)"', both)
    assert len(identifiers) == len(set(identifiers))
    widths = [float(found) for found in re.findall(r'<svg x="[\d.]+" y="[\d.]+" width="([\d.]+)"', both)]
    whole = float(re.findall(r'viewBox="0 0 ([\d.]+)', both)[0])
    assert whole == pytest.approx(sum(widths), abs=0.1)
    assert INK not in drawing.on_a_page(svgs[0])


def test_what_is_drawn_lies_within_its_picture() -> None:
    """By matplotlib's own measure of words, which are as wide as those of a page without its font, or wider."""
    for panel in PANELS:
        with drawing.in_style():
            figure = drawing._alone(panel)
            figure.draw_without_rendering()
            tight = figure.get_tightbbox()
        assert tight.x0 >= -0.02
        assert tight.y0 >= -0.02
        assert tight.x1 <= figure.get_figwidth() + 0.02
        assert tight.y1 <= figure.get_figheight() + 0.02


def test_words_are_broken_between_settings_and_only_then_within_one() -> None:
    words = wrapped("dynsdpb (alpha_rule=certainty), best of 13 settings", 22)
    assert words == "dynsdpb (alpha_rule=\ncertainty), best of 13\nsettings"
    assert max(map(len, wrapped("x" * 100, 22).split("\n"))) == 22


def test_shares_stay_between_zero_and_one() -> None:
    with drawing.in_style():
        (axes,) = drawing._alone(CURVES).axes
    low, high = axes.get_ylim()
    assert -0.05 < low < high < 1.05
    for band in axes.collections:
        points = np.concatenate([path.vertices for path in band.get_paths()])
        assert points[:, 1].min() >= 0
        assert points[:, 1].max() <= 1


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0, 50.0])
def test_a_difference_below_the_noise_changes_a_colour_by_an_eighth_of_the_scale_at_most(noise: float) -> None:
    values = np.random.default_rng(0).normal(70, 1, (3, 4))
    low, high = Cells("", "x", "y", ["a"] * 3, ["b"] * 4, values, noise=noise).range()
    assert low <= values.min() < values.max() <= high
    assert noise / (high - low) <= 1 / 8 + 1e-9
    if noise == 0:
        assert (low, high) == (values.min(), values.max())


def test_a_single_label_needs_no_legend() -> None:
    assert legend([Curves("", "x", "y", [Line("one", Look(0), X, X)])]).entries == {}
    assert list(legend([CURVES, CURVES]).entries) == ["one", "two"]


def test_the_whole_figure_shows_all_panels(tmp_path: Path) -> None:
    figure = drawing.whole(PANELS)
    assert [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes] == [panel.title for panel in PANELS]
    with drawing.in_style():
        figure.savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_figures_drawn_in_processes_are_those_drawn_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [Figure(f"figure-{number}", "caption", [CURVES]) for number in range(4)]
    monkeypatch.setattr(plates, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(plates, "ProcessPoolExecutor", None)  # a script that asks for none gets none
    alone = plates.draw_all(figures, tmp_path / "alone")
    monkeypatch.undo()
    monkeypatch.setattr(plates, "WORTH_A_PROCESS", 1)
    assert plates.draw_all(figures, tmp_path / "beside", processes=2) == alone
    files = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert files == sorted(f"figure-{number}.{ending}" for number in range(4) for ending in ("csv", "svg"))
    for name in files:
        assert (tmp_path / "beside" / name).read_text() == (tmp_path / "alone" / name).read_text()
