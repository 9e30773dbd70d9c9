"""Where ``auto`` is bfloat16: on a CPU, where it has instructions for it and is quicker in it."""

import itertools

import pytest
import torch

from commin import precision


@pytest.mark.parametrize(
    ("amx", "avx512", "quicker", "dtype"),
    [
        (False, False, None, torch.float32),  # emulated: not even measured
        (False, True, False, torch.float32),
        (False, True, True, torch.bfloat16),
        (True, True, None, torch.bfloat16),
    ],
)
def test_a_cpu_is_measured_where_instructions_do_not_tell(
    amx: bool, avx512: bool, quicker: bool | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> bool:
        assert quicker is not None
        return quicker

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(precision, "_quicker_in_bf16", measured)
    assert precision.fast_dtype(torch.device("cpu")) == dtype


@pytest.mark.parametrize(("of_float32", "quicker"), [(0.5, False), (1.3, False), (2.0, True)])
def test_bf16_has_to_be_clearly_quicker(of_float32: float, quicker: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.accumulate(itertools.cycle([1.0, of_float32, 1.0, 1.0]))
    monkeypatch.setattr(precision, "SIDE", 2)
    monkeypatch.setattr(precision.time, "process_time", lambda: next(ticks))
    assert precision._quicker_in_bf16.__wrapped__() is quicker
