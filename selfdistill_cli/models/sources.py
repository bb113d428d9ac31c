"""Where a model's weights come from: a folder, an installed weights package, a Hub id; and the words if from nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.config.weights import PACKAGES, is_gguf, packaged_file
from selfdistill_cli.errors import UserError, did_you_mean, first_line, how_to_install
from selfdistill_cli.runs.keys import model_folder
from selfdistill_cli.system.files import file_digest


def hub_id(name: str) -> str:
    """What others find this model by: its Hub id, or its name if it has none that we know."""
    return PACKAGES[name].hub_id if name in PACKAGES else name


def package_of(name: str) -> str:
    """The name of the weights package that carries this Hub id, if one is known; else the name itself."""
    same = (package for package, known in PACKAGES.items() if known.hub_id == name and not known.is_gguf)
    return next(same, name)


def resolve(name: str, cache: Path | None = None) -> str:
    """A local folder or a Hub id for this model name; of a run's folder, the one that its model lies in.

    A GGUF file's model is put into a folder below `cache` first. Raises `UserError` if there is no such folder or file,
    it is damaged, or it is a run without a model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        folder = model_folder(path)
        if folder is None and (path / "config.yaml").is_file():
            raise UserError(
                f"model.name={name}: this run has no model: it has not finished. The command that began it goes on."
            )
        return str(folder or path)
    if name in PACKAGES:
        weights = _packaged(name)
        if weights is None:
            return PACKAGES[name].hub_id
        return _plain(weights, cache) if is_gguf(weights.name) else str(weights.parent)
    if is_gguf(name) and path.is_file():
        return _plain(path, cache)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or is_gguf(name):
        raise UserError(f"model.name={name}: there is no such {'file' if is_gguf(name) else 'folder'}.")
    return name


def _packaged(name: str) -> Path | None:
    """The weights of a package, whole; None if it is not installed and the Hub has the same."""
    weights, sha256 = packaged_file(name), PACKAGES[name].sha256
    if weights is not None and file_digest(weights) != sha256:
        raise UserError(f"{weights} is damaged: its SHA-256 is not {sha256}. Reinstall it.")
    return weights


def _plain(file: Path, cache: Path | None) -> str:
    from selfdistill_cli.models.gguf import plain_folder

    if cache is None:
        raise ValueError(f"{file} can only be read where there is a place to put its model")
    return str(plain_folder(file, cache))


def shapes_in_words(differ: Iterable[tuple[str, Sequence[int], Sequence[int]]], by: str) -> str:
    """Of weights whose shape in their file is not the expected one (name, held, expected), the first and how many there are.

    by: what says which shape they should have.
    """
    (name, *shapes), *others = sorted(differ)
    held, expected = (" × ".join(map(str, shape)) for shape in shapes)
    more = f" ({len(others) + 1:,} weights do not fit)" if others else ""
    return f"{name} is {held} there, and {expected} by its {by}{more}"


def state_of(source: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file of a folder; nothing of a model of the Hub."""
    files = sorted(Path(source).glob("*")) if Path(source).is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


def model_missing(source: str, error: Exception) -> str:
    """What to say when a model cannot be loaded."""
    known = [path.stem for path in (CONF_DIR / "model").glob("*.yaml")]
    return (
        f"The model '{source}' cannot be loaded: {first_line(error)}{did_you_mean(source, known)}\n"
        "Three ways out:\n"
        "  - name a folder that save_pretrained wrote, with model.safetensors: model.name=<folder>\n"
        "  - run once with a network, so that the Hub's cache holds the model\n"
        f"  - use an embedded model: model=minilm ({how_to_install('offline')}) or model=tiny_bert"
    )
