"""How the scripts of this folder show what they measured: a table of 80 columns, or Markdown to be put into docs/."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--markdown`."""
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, markdown: bool) -> None:
    """Print a table; the title of a Markdown one is left to the page."""
    if markdown:
        lines = [columns, ["---"] * len(columns), *rows]
        print("".join(f"\n| {' | '.join(line)} |" for line in lines).replace("|  |", "| |") + "\n", flush=True)
        return
    table = Table(title=title)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 80).print(table)


def median(found: Sequence[float]) -> str:
    """Of several rounds, to three digits."""
    return plain(statistics.median(found))


def spread(found: Sequence[float]) -> str:
    """The smallest and the largest; nothing of a single one."""
    return f"{plain(min(found))} – {plain(max(found))}" if len(found) > 1 else ""


def plain(value: float) -> str:
    """Three digits, those before the point all."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """What it was measured on: processor or card, threads, the rates of its products, versions."""
    import torch
    import transformers

    from selfdistill_cli.engine.utilization import matmul_ceiling

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceilings = ", ".join(f"{precision} {matmul_ceiling(precision, device):,.0f}" for precision in ("fp32", "bf16"))
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{_processor()}, {torch.get_num_threads()} threads"
    )
    return (
        f"{name} ({os.cpu_count()} cores); products: {ceilings} GFLOP/s; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def _processor() -> str:
    """Its name, and the instructions that matter here."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="ascii", errors="ignore").splitlines() if file.is_file() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    able = [word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if word in told.get("flags", "").split()]
    return " ".join([told.get("model name", platform.machine()), *able])
