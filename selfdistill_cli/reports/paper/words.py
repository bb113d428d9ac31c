"""The methods paragraph: what was run, on what, how it was chosen and compared, from what the runs recorded."""

from __future__ import annotations

from collections.abc import Sequence

from selfdistill_cli.reports.paper.facts import (
    UNKNOWN,
    commit,
    counted,
    data_source,
    each,
    environment,
    hardware,
    hours,
    in_words,
    operations,
    result,
    seeds,
    selection,
    setting,
    told,
    validation_examples,
)
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.statistics import DRAWS, LEVEL
from selfdistill_cli.reports.variants import Study, each_once
from selfdistill_cli.system.words import listed

STATISTICS = (
    "Scores are means over seeds with the sample's standard deviation. Differences are paired by seed and validation "
    f"example; their variance is that of a bootstrap over validation examples ({DRAWS:,} draws, the same for all seeds) plus "
    "what the seeds add to it, and the 95 % intervals and p-values are Student's t with Satterthwaite's degrees of freedom. "
    "The p-values of the comparisons of a study with its baselines are corrected together by Holm's method; a difference "
    f"counts as significant where the corrected p is below {LEVEL}. What was run with one seed is not tested."
)


def methods_paragraphs(studies: Sequence[Study]) -> list[tuple[str, str]]:
    """A title and a paragraph for each study, then what all share: statistics, and with what and where it was computed."""
    runs = each_once(studies)
    return [
        *((study.name, _of_study(study)) for study in studies),
        ("Statistics", STATISTICS),
        ("Software and hardware", _software(runs)),
    ]


def _of_study(study: Study) -> str:
    runs = study.runs
    methods = listed(list(dict.fromkeys(group.settings["method.name"] for group in study.groups)))
    return " ".join(
        [
            f"We fine-tune {_model(runs)} on {study.task} ({told(runs, data_source)}): "
            f"{told(runs, result('train_examples'))} training examples, scored by {study.metric} on "
            f"{told(runs, validation_examples)} validation examples{_truncated(runs)}.",
            f"Methods: {methods}, each with {seeds(study)}.",
            _optimisation(runs),
            selection(study),
            _compute(runs),
            *(f"{remark}." for remark in study.remarks),
        ]
    )


def _model(runs: Sequence[Run]) -> str:
    trained, all_of_them = each(runs, result("trained_parameters")), each(runs, result("parameters"))
    named = told(runs, result("model"))
    if not all_of_them:
        return f"{named} (number of parameters {UNKNOWN})"
    if trained == all_of_them:
        return f"{named} ({listed(all_of_them)} parameters, all trained)"
    return f"{named} ({listed(all_of_them)} parameters, of which {listed(trained) or 'an unknown number'} are trained)"


def _truncated(runs: Sequence[Run]) -> str:
    cut = each((run for run in runs if run.results.get("truncated_examples")), result("truncated_examples"))
    if not cut:
        return ""
    return f" (training texts cut to {told(runs, setting('task.max_length'))} tokens: {listed(cut)})"


def _optimisation(runs: Sequence[Run]) -> str:
    steps = each(runs, setting("schedule.max_steps"))
    length = counted(listed(steps), "step") if steps else counted(told(runs, setting("schedule.epochs")), "epoch")
    passes = [one for one in each(runs, setting("method.passes")) if one != "1"]
    more = f" (times {listed(passes)} for methods that are given more passes)" if passes else ""
    return (
        f"Training lasts {length}{more} with {told(runs, setting('schedule.optimizer'))}, learning rate "
        f"{told(runs, setting('schedule.lr'))} ({told(runs, setting('schedule.scheduler'))}, warm-up over "
        f"{told(runs, setting('schedule.warmup_ratio'))} of the steps), batches of {told(runs, setting('schedule.batch_size'))}, "
        f"weight decay {told(runs, setting('schedule.weight_decay'))}, {_clipping(runs)}, in "
        f"{told(runs, result('precision'))}."
    )


def _clipping(runs: Sequence[Run]) -> str:
    """Null, which is not clipped, is a value too."""
    key = "schedule.max_grad_norm"
    norms = each(runs, setting(key))
    if all(run.settings.get(key, UNKNOWN) is not None for run in runs):
        return f"gradients clipped to norm {told(runs, setting(key))}"
    return f"gradients clipped to norm {listed(norms)} or not at all" if norms else "gradients not clipped"


def _compute(runs: Sequence[Run]) -> str:
    forwarded = sorted({int(run.results["examples_forwarded"]) for run in runs})
    between = in_words(forwarded[0]) if len(forwarded) == 1 else f"{forwarded[0]:,} to {forwarded[-1]:,}"
    flops = operations(runs)
    counted = f" All together took {flops}." if flops else ""
    return f"A run forwards {between} examples in training; training took {hours(runs)}.{counted}"


def _software(runs: Sequence[Run]) -> str:
    packages = ("torch", "transformers", "accelerate", "datasets", "numpy")
    versions = listed([f"{name} {told(runs, environment('packages', name))}" for name in packages])
    return (
        f"sdrun {told(runs, environment('selfdistill_cli'))}, commit {told(runs, commit)}, Python "
        f"{told(runs, environment('python'))}, {versions}; computed on {hardware(runs) or UNKNOWN}, operating system "
        f"{told(runs, environment('platform'))}, processes a run: {told(runs, result('processes'))}."
    )
