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

from selfdistill_cli.config.weights import kept_folder, readable
from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.models.sources import shapes_in_words
from selfdistill_cli.runs.keys import ABOUT
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.gguf_header import INSTEAD, Header
from selfdistill_cli.system.lease import missing

EXACT_TYPES = {"F64", "F32", "F16", "BF16"}
"""Types of GGUF that are not rounded beyond a floating-point number's own precision."""


def plain_folder(file: Path, cache: Path) -> Path:
    """The folder below `cache` with the model of a GGUF file as `save_pretrained` writes it, made if it is not there.

    Weights are float32, the tokenizer lies beside them. Raises `UserError` if the package gguf is missing, the file
    is damaged, or transformers cannot read its architecture.
    """
    kept = kept_folder(file, cache)
    with missing(kept) as folder:
        if folder is not None:
            header = readable(file)
            print(f"reading the weights of {file.name}", flush=True)
            _convert(file, header, folder)
    if folder is not None:
        print(f"they lie in {kept} now: the next start finds them there", flush=True)
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


def _convert(file: Path, header: Header, folder: Path) -> None:
    """Fill `folder` with what transformers reads in the file."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            model, loading = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, output_loading_info=True, ignore_mismatched_sizes=True
            )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(_unread(file, header, error)) from error
    _require_all_weights(file, type(model).__name__, loading)
    config: Any = AutoConfig.for_model(**{**model.config.to_dict(), "quantization_config": None})
    del config.quantization_config  # it is a plain model from here on; with it save_pretrained refuses
    config._name_or_path = ""
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_about(folder, file.name, _types(header))


def _types(header: Header) -> dict[str, int]:
    """How many tensors of each type the file holds."""
    from gguf import GGMLQuantizationType

    names = [GGMLQuantizationType(tensor.type).name for tensor in header.tensors]
    return {name: names.count(name) for name in sorted(set(names))}


def _unread(file: Path, header: Header, error: Exception) -> str:
    """What to say when transformers makes no model of a whole file."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    architecture = header.architecture
    if f"architecture {architecture} is not supported" in str(error):
        known = ", ".join(sorted({*GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"}))
        why = f"transformers reads no GGUF file of the architecture {architecture}, only of {known}"
    elif isinstance(error, KeyError):
        why = f"transformers looks for {error} in its metadata, which has none"
    else:
        why = first_line(error).rstrip(".")
    return f"{file} cannot be read as a language model: {why}. {INSTEAD}"


def _require_all_weights(file: Path, kind: str, loading: dict[str, Any]) -> None:
    """Raise `UserError` if a model of this kind has weights that the file lacks, or has in another shape."""
    absent, odd = sorted(loading["missing_keys"]), loading["mismatched_keys"]
    if absent:
        more = " …" if len(absent) > 3 else ""
        raise UserError(f"{file} lacks weights of a {kind}: {', '.join(absent[:3])}{more}. {INSTEAD}")
    if odd:
        raise UserError(f"{file} contradicts itself: {shapes_in_words(odd, by='metadata')}. {INSTEAD}")
