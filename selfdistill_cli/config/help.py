"""What `sdrun --help`, `--version` and `--explain` print: read from conf/, composed from nothing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from selfdistill_cli import __version__
from selfdistill_cli.config import naming
from selfdistill_cli.config.options import added_groups, default_groups, folders, groups, options_of
from selfdistill_cli.config.settings import Setting, holders, read_option, run_settings, setting_groups
from selfdistill_cli.errors import UserError, did_you_mean

HELP = """\
sdrun fine-tunes small language models with self-distillation: one command, one reproducible run.

Usage: sdrun [group=option] [key=value] ...        one run
       sdrun -m [group=option,option] [key=a,b] ... all combinations
       sdrun +experiment=option ...                  a whole study
       sdrun --plan ...                              what any of these would do and take; runs nothing
       sdrun --explain [group, setting or option]    what each is, its default and what it takes

Groups
{groups}

  model=tiny_bert, tiny_llama, tiny_t5 need no network, nor does minilm where its package is installed;
  any other model: model.name=<folder or Hub id>. LoRA on any: model.lora.rank=8
  tasks named synth_... are generated. A file of yours: task=custom task.path=file.csv task.text=column
  task.label=column (written answers: task.kind=generation task.answer=column)

Examples
  sdrun                                               dynsdpb on a generated task, from embedded weights
  sdrun method=dynsdpb task=rte                       one run on real data (SDRUN_DATA=folder, or the Hub)
  sdrun task=sst2 task.train_examples=1000 method=dcs method.lambda_=3
  sdrun -m method=vanilla,dynsdpb task=rte seed=0,1,2
  sdrun model=smollm2_135m task=gsm8k method=dynsdpb model.lora.rank=8
  sdrun +experiment=tau_alpha method=dynsdpb task=rte

The same command again shows a finished run's result, and goes on with an interrupted one (rerun=true: afresh).
Settings and defaults: sdrun --explain, sdrun --cfg job     Version: sdrun --version
Tab completion: eval "$(sdrun -sc install=bash)"     Hydra's own flags: sdrun --hydra-help"""


def help_text() -> str:
    """What `sdrun --help` prints."""
    lines = []
    for group in groups():
        names = " ".join(["basic", *options_of(group)] if group == "hydra/launcher" else options_of(group))
        lines += textwrap.wrap(
            names,
            110,
            initial_indent=f"  {naming.plus(group) + group:<15} ",
            subsequent_indent=" " * 18,
            break_on_hyphens=False,
        )
    return HELP.replace("{groups}", "\n".join(lines))


def version_text() -> str:
    """What `sdrun --version` prints."""
    return f"sdrun {__version__}"


# --- explain --------------------------------------------------------------------------------------


def explained(asked: str | None, words: Sequence[str] = (), width: int | None = None) -> str:
    """What `sdrun --explain` prints: of all settings, of a group, of one option (method=dcs, or dcs), or of one setting.

    Raises `UserError` if there is nothing of that name.
    """
    page = _Page(width or shutil.get_terminal_size().columns)
    if asked is None:
        page.settings({key: {"": setting} for key, setting in run_settings().items()}, 1)
        for group in setting_groups():
            page.group(group, words, with_options=False)
        page.lines.append("")
        page.paragraph("sdrun --explain <group> describes its options too: " + ", ".join(groups()))
        return "\n".join(page.lines).strip()
    group, equals, name = asked.lstrip("+").partition("=")
    if not equals and group not in groups() and (of := naming.group_of_option(group)):
        group, equals, name = of, "=", group  # an option by its name alone
    if group in groups() and not equals:
        page.group(group, words)
    elif group in groups() and name in options_of(group, words):
        found = read_option(group, name, tuple(folders(words)))
        page.paragraph(f"{naming.plus(group)}{group}={name}: {found.description}")
        page.settings({key: {"": setting} for key, setting in found.settings.items()}, 1)
    else:
        page.named(asked.partition("=")[0], words)
    return "\n".join(page.lines).strip()


class _Page:
    """Lines of a width."""

    def __init__(self, width: int) -> None:
        self.width = max(30, min(width, 110))
        self.lines: list[str] = []

    def paragraph(self, text: str, first: str = "", then: str = "") -> None:
        self.lines += textwrap.wrap(
            text,
            self.width,
            initial_indent=first,
            subsequent_indent=then,
            break_on_hyphens=False,
            break_long_words=False,
        )

    def group(self, group: str, words: Sequence[str], with_options: bool = True) -> None:
        """A group: its options, each with its first words, and the settings that they have."""
        default = default_groups().get(group)
        names = options_of(group, words)
        self.lines += ["", f"{naming.plus(group)}{group}=…" + (f" (unless chosen: {default})" if default else "")]
        if with_options:
            for name in names:
                self.paragraph(f"{name}: {_first_sentence(naming.description(group, name, words))}", "  ", "      ")
            self.lines.append("")
        else:
            self.paragraph(" ".join(names), "  ", "  ")
        if group not in added_groups():
            self.settings(holders(group, words), len(names))

    def named(self, name: str, words: Sequence[str]) -> None:
        """One setting or those of which this is the beginning or the short name."""
        every = {key: {"": setting} for key, setting in run_settings().items()}
        counts = dict.fromkeys(every, 1)
        for group in setting_groups():
            found = holders(group, words)
            every |= found
            counts |= dict.fromkeys(found, len(options_of(group, words)))
        named = [key for key in every if key == name or key.startswith(f"{name}.")]
        named = named or [key for key in naming.full_names(name) if key in every]
        if not named:
            raise UserError(f"there is no group, option or setting '{name}'.{did_you_mean(name, every)}")
        for key in named:
            self.settings({key: every[key]}, counts[key])

    def settings(self, rows: dict[str, dict[str, Setting]], options: int) -> None:
        """Each setting: its name and what it takes; then value and meaning, by the options that have them."""
        for key, having in rows.items():
            bounds = {setting.allowed for setting in having.values() if setting.allowed}
            allowed = next(iter(bounds)) if len(bounds) == 1 else ""
            self.lines.append("")
            self.paragraph(f"{key}  ({allowed})" if allowed else key, "", "    ")
            for (value, meaning), names in _alike(having, options):
                shown = f"default {value}" if value else "required"
                self.paragraph(f"{', '.join(names)}: {shown}" if names else shown, "  ", "      ")
                if meaning:
                    self.paragraph(meaning, "      ", "      ")
            if len(bounds) > 1:
                for bound in sorted(bounds):
                    self.paragraph(
                        f"{bound}: {', '.join(name for name, setting in having.items() if setting.allowed == bound)}",
                        "  ",
                        "      ",
                    )


def _alike(having: dict[str, Setting], options: int) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Value and meaning, and the options that have them: none are named where all have the same, or most of many."""
    ordered = sorted(having.items(), key=lambda item: (item[1].value, item[1].meaning))
    alike = [
        (pair, [name for name, _ in found])
        for pair, found in groupby(ordered, lambda item: (item[1].value, item[1].meaning))
    ]
    if options > 10 and len(having) == options:  # models, tasks: what most leave alone
        pair, _ = max(alike, key=lambda one: len(one[1]))
        yield pair, []
        return
    everyone = len(alike) == 1 and (len(having) == options)
    for pair, names in alike:
        yield pair, [] if everyone else names


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "." if text else ""
