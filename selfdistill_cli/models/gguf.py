"""Weights in a GGUF file, as llama.cpp keeps them, put once into a plain Hugging Face folder.

Such files mostly hold rounded weights. What is trained are floating-point numbers again, which start from the
rounded values: `rounded_start` says so, whoever reports on a run repeats it, and the run's own model keeps it.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError, first_line, how_to_install
from selfdistill_cli.runs.keys import ABOUT
from selfdistill_cli.system.files import file_digest, read_json, write_json
from selfdistill_cli.system.lease import missing

EXACT_TYPES = {"F64", "F32", "F16", "BF16"}
"""Types of GGUF that are not rounded beyond a floating-point number's own precision."""


def plain_folder(file: Path, cache: Path) -> Path:
    """The folder below `cache` with the model of a GGUF file as `save_pretrained` writes it, made if it is not there.

    Weights are float32, the tokenizer lies beside them. Raises `UserError` if the package gguf is missing, the file
    is damaged, or transformers cannot read its architecture.
    """
    kept = cache / "gguf" / file_digest(file, cache)[:16]
    with missing(kept) as folder:
        if folder is not None:
            _convert(file, folder, kept)
    return kept


@dataclass(frozen=True)
class RoundedStart:
    """The rounded weights of a GGUF file, from which a model comes."""

    file: str
    """Its name."""
    types: dict[str, int]
    """How many tensors it holds of each type."""
    trained: bool = False
    """Whether the model is what a run made of them."""

    @property
    def words(self) -> str:
        """`weights rounded to Q8_0 (own.gguf)`."""
        rounded = ", ".join(name for name in self.types if name not in EXACT_TYPES)
        return f"{'weights that a run trained from ' * self.trained}weights rounded to {rounded} ({self.file})"

    @property
    def remark(self) -> str:
        """What every report says of a run that starts from them."""
        return f"training starts from {self.words}"

    def keep(self, folder: Path) -> None:
        """Write into the folder of a model that was trained from them what a run that starts from it has to say."""
        _write_about(folder, self.file, self.types, trained=True)


def rounded_start(folder: Path) -> RoundedStart | None:
    """The rounded weights that a model's folder comes from: one of `plain_folder`, or of a run that started there."""
    content = read_json(folder / ABOUT)
    start = None if content is None else RoundedStart(**content)
    return start if start is not None and set(start.types) - EXACT_TYPES else None


def _write_about(folder: Path, file: str, types: dict[str, int], **more: bool) -> None:
    write_json(folder / ABOUT, {"file": file, "types": types, **more})


def _convert(file: Path, folder: Path, kept: Path) -> None:
    """Fill `folder`, which will be `kept`."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    types = _tensor_types(file)
    print(f"putting the weights of {file.name} into {kept}: the next start finds them there", flush=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            model, loading = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ImportError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as a language model: {first_line(error)} transformers knows the architectures of "
            "its GGUF documentation (llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3 and others)."
        ) from error
    if loading["missing_keys"]:
        raise UserError(
            f"{file} lacks weights of a {type(model).__name__}: {', '.join(sorted(loading['missing_keys'])[:3])} …"
        )
    config: Any = AutoConfig.for_model(**{**model.config.to_dict(), "quantization_config": None})
    del config.quantization_config  # it is a plain model from here on; with it save_pretrained refuses
    config._name_or_path = ""
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_about(folder, file.name, types)


def _tensor_types(file: Path) -> dict[str, int]:
    """How many tensors of each type the file holds. Raises `UserError` if it is no GGUF file, or a cut one."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError(f"{file.name} is a GGUF file, which the package gguf reads: {how_to_install('gguf')}") from None
    try:
        reader = GGUFReader(file)
        names = [tensor.tensor_type.name for tensor in reader.tensors]
    except (IndexError, KeyError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or no GGUF file: {first_line(error)}") from error
    return {name: names.count(name) for name in sorted(set(names))}
