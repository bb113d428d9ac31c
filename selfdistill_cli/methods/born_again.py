"""Born-again networks (Furlanello et al., arXiv 1805.04770): each generation is taught by the one before.

    generation 0: vanilla
    generation k: L = mean_i [ α · CE(z_i, y_i) + (1 − α) · τ² · KL( p(z_i^{k−1}; τ) ‖ p(z_i; τ) ) ]

Every generation starts from the pretrained weights, and is a run of its own (teacher.py).
"""

from __future__ import annotations

from selfdistill_cli.methods.kd import KD


class BornAgain(KD):
    """The last of `method.generations` generations; those before it are its teacher's teachers."""
