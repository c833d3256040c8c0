"""Triton's kernels, by its interpreter on a CPU, compute what PyTorch's own functions do."""

import importlib
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from generators.fast import fused

pytest.importorskip("triton")


def _loaded() -> list[str]:
    """Modules that settle when they are imported whether kernels are compiled or interpreted."""
    own = "generators.fast.kernels"
    return [n for n in sys.modules if n == own or (n.split(".")[0] == "triton" and not n.startswith("triton._C"))]


@pytest.fixture(scope="module")
def interpreted():
    """Triton imported anew, to interpret; what was there comes back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        before = {name: sys.modules.pop(name) for name in _loaded()}
        importlib.import_module("generators.fast.kernels")
        yield
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture
def apart(interpreted, monkeypatch) -> Callable[[Callable], float]:
    """How far, relative to its size, a function's last value by kernels is from that by PyTorch."""

    def apart(function: Callable) -> float:
        found = []
        for kernels in (False, True):
            monkeypatch.setattr(fused, "by_kernel", lambda x, kernels=kernels: kernels)
            with torch.no_grad():
                value = function()
            found.append((value[-1] if isinstance(value, tuple) else value).float())
        return float((found[0] - found[1]).norm() / found[0].norm())

    return apart


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def with_weights(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        norm.weight.copy_(drawn(len(norm.weight)))
        norm.bias.copy_(drawn(len(norm.bias) + 1)[1:])
    return norm


LIMITS = {torch.float32: 1e-6, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("add", [(), (12,), (2, 12)])
def test_group_norm_over_several_chunks(apart, dtype, act, add):
    norm, rows = with_weights(nn.GroupNorm(4, 12)).to(dtype), (drawn(2, fused.WORK + 9, 12) + 3).to(dtype)
    more = drawn(*add) if add else None
    assert apart(lambda: fused.group_norm(rows, norm, act=act, add=more)) < LIMITS[dtype]


def test_group_norm_of_channels_far_from_zero(apart):
    rows = drawn(1, 70, 8) + torch.tensor([100.0, -50, 0, 7, 100, 100, 100, 100])
    assert apart(lambda: fused.group_norm(rows, with_weights(nn.GroupNorm(2, 8)), act=False)) < 1e-3


@pytest.mark.parametrize("dtype", LIMITS)
def test_sums_gates_and_layer_norms(apart, dtype):
    x, y = drawn(2, 67, 24, dtype=dtype), drawn(2, 67, 25, dtype=dtype)[..., 1:].contiguous()
    norm = with_weights(nn.LayerNorm(24)).to(dtype)
    assert apart(lambda: fused.add_all(x.clone(), norm.bias, y)) < LIMITS[dtype]
    assert apart(lambda: fused.gate(x)) < LIMITS[dtype]
    assert apart(lambda: fused.add_layer_norm(x, None, norm)) < LIMITS[dtype]
    assert apart(lambda: fused.add_layer_norm(x, y, norm)) < LIMITS[dtype]
    assert apart(lambda: fused.add_layer_norm(x, y, norm)[::-1]) < LIMITS[dtype]


@pytest.mark.parametrize(("heads", "frames", "pixels"), [(2, 5, 9), (3, 16, 7), (1, 24, 3), (2, 1, 4)])
def test_attention_over_time(apart, heads, frames, pixels):
    # Parts of wider rows, as one product for all three gives them.
    q, k, v = drawn(2, frames * pixels, 3 * heads * 8).chunk(3, dim=-1)
    assert apart(lambda: fused.attend_over_time(q, k, v, heads, frames)) < 1e-6
