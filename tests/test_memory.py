"""What a training step frees is there for the next one."""

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from commin.training.memory import keep_freed_memory

if KEPT:
    keep_freed_memory()
torch.set_num_threads(1)
layers = [layer for _ in range(6) for layer in (torch.nn.Conv2d(32, 32, 1), torch.nn.SiLU())]
network = torch.nn.Sequential(*layers)
counts = []
for step in range(24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(torch.zeros(16, 32, 64, 64)).sum().backward()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(counts[4:])[10])
"""


def faults(kept: bool) -> int:
    """Pages faulted in by a step: the median, for the heap may still grow by a tensor in one or another."""
    code = FAULTS.replace("KEPT", str(kept))
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc keeps memory so"
)
def test_pages_are_not_faulted_in_again() -> None:
    assert faults(kept=True) < 1000 < faults(kept=False)
