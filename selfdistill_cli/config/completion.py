"""Tab completion: Hydra's, with the values that a setting may have, and without groups that nobody chooses from."""

from __future__ import annotations

from hydra.plugins.completion_plugin import CompletionPlugin

from selfdistill_cli.config.options import folders, groups
from selfdistill_cli.config.settings import field_of


def complete_well() -> None:
    """Have every shell's completion answer as `choices` says; call it before Hydra completes."""
    hydras = CompletionPlugin._query

    def query(self: CompletionPlugin, config_name: str | None, line: str) -> list[str]:
        word = "" if line.endswith(" ") or not line else line.split()[-1]
        found = values(word)
        return found if found is not None else [one for one in hydras(self, config_name, line) if offered(one)]

    CompletionPlugin._query = query  # type: ignore[method-assign]


def values(word: str) -> list[str] | None:
    """`method.tau_rule=un`: the words that the schema allows and that begin so; None where it names none."""
    key, equals, begun = word.partition("=")
    if not equals:
        return None
    hint, metadata = field_of(key.lstrip("+"))
    allowed = metadata.get("choices") or (("true", "false") if hint is bool else ())
    return [f"{key}={value}" for value in allowed if value.startswith(begun)] if allowed else None


def offered(word: str) -> bool:
    """Whether a word of Hydra's is one that a user types: a group, an option of one, a setting."""
    first = word.lstrip("+~").split("=")[0].split("/")[0].split(".")[0]
    internal = {path.name for folder in folders() for path in folder.iterdir() if path.is_dir()} | {"schema"}
    chosen = {group.partition("/")[0] for group in groups()}
    return first not in internal - chosen
