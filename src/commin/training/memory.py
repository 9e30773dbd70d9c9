"""Memory that a step frees is kept for the next one: on Linux, else every page of it is faulted in again and again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

LARGEST = 32 << 20
"""Blocks above are given back as they are freed; glibc takes no more than this."""


def keep_freed_memory() -> None:
    """Let glibc keep what is freed; other systems and C libraries stay as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
