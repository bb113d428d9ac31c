"""Reports: from folders of runs to tables and figures with error bars. They read run directories and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load_runs(*folders: str | Path) -> pd.DataFrame:
    """Every run below these folders (`outputs`) as a row of a DataFrame: settings, state, scores, costs.

    Settings have their dotted names (`method.tau`; NaN where the method has none of that name), metrics of the chosen
    epoch on the validation examples `score.<metric>`, those on other tasks `score.<task>.<metric>`; seconds, tokens and
    other numbers of results.json their own names. Raises `UserError` if a folder does not exist.
    """
    from selfdistill_cli.reports.frame import frame  # pandas takes a second to import

    return frame([Path(folder) for folder in folders or ("outputs",)])
