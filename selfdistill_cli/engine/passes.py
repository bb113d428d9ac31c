"""What some work cost: examples, tokens, floating-point operations. Imports nothing heavy: reports count with it, too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Passes:
    """What some work cost."""

    forward: int = 0
    """Examples through a forward pass, each time that one is; of the frozen or averaged model as well."""
    backward: int = 0
    """Examples through a backward pass."""
    tokens: int = 0
    """Forwarded or written, without padding."""
    flops: float | None = 0.0
    """Floating-point operations of the matrix products on these tokens; None: not known."""
    generated_tokens: int = 0
    """Those of `tokens` that were written, ends of sequence among them."""

    def __add__(self, other: Passes) -> Passes:
        flops = None if self.flops is None or other.flops is None else self.flops + other.flops
        return Passes(
            self.forward + other.forward,
            self.backward + other.backward,
            self.tokens + other.tokens,
            flops,
            self.generated_tokens + other.generated_tokens,
        )

    def as_dict(self) -> dict[str, int]:
        """For a file; operations are left out where they are not known, generated tokens where nothing was written."""
        found = {name: round(value) for name, value in asdict(self).items() if value is not None}
        return found if self.generated_tokens else {k: v for k, v in found.items() if k != "generated_tokens"}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Passes:
        """Take back what `as_dict` gave."""
        return cls(**{"flops": None, **content})
