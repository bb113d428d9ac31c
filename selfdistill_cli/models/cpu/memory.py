"""Freed memory stays with the process, so that each step need not fault its pages in again."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Of <malloc.h>."""


def keep_freed_memory() -> bool:
    """Ask glibc to take all memory from the heap and to give none back; whether it will.

    By default each large tensor is mapped anew and unmapped when it is freed: a step of MiniLM then faults
    more pages in than its matrix products take time for. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) for option, value in
               ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)))  # fmt: skip
