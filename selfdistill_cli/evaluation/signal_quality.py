"""Do the signals of a prediction tell whether it is right? AUROC and Spearman's ρ, on data that is not trained on.

DynSDPB reads u (uncertainty) and d (discrimination) off a prediction. The gold form of d knows the label: with two
classes it is above 2σ(−log 2) exactly where the prediction is right, so its AUROC is 1 by construction. `margin`,
the other form of d, does not know it.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def signal_quality(correct: np.ndarray, signals: dict[str, Any]) -> dict[str, float]:
    """`<name>/auroc` and `<name>/spearman` of each signal [n] against `correct`, bool [n].

    AUROC is the chance that a right prediction has the larger value than a wrong one (ties count half), and of
    `uncertainty` the smaller; 0.5 says nothing. Left out where all predictions are right, or all wrong, and, for
    Spearman's ρ, where the signal is constant.
    """
    from scipy.stats import spearmanr  # with sklearn, a second to import
    from sklearn.metrics import roc_auc_score

    correct = np.asarray(correct, dtype=bool)
    found: dict[str, float] = {}
    if correct.all() or not correct.any():
        return found
    for name, given in signals.items():
        values = np.asarray(given, dtype=np.float64)
        found[f"{name}/auroc"] = float(roc_auc_score(correct, -values if name == "uncertainty" else values))
        if np.ptp(values) > 0:
            found[f"{name}/spearman"] = float(spearmanr(values, correct).statistic)
    return found
