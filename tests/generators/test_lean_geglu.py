"""A gated activation that keeps less has diffusers' values and gradients."""

import pytest
import torch
from diffusers.models.activations import GEGLU

from generators.fast.gated_activation import keep_gates_once


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_diffusers(dtype):
    torch.manual_seed(0)
    model, found = torch.nn.Sequential(GEGLU(6, 10)).to(dtype), []
    x, weights = torch.randn(3, 4, 6, dtype=dtype, requires_grad=True), torch.randn(3, 4, 10, dtype=dtype)
    for _ in ("diffusers", "lean"):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            y = model(x)
        gradients = torch.autograd.grad((y * weights).sum(), [x, *model.parameters()])
        found.append(([y, *gradients], sum(kept)))
        keep_gates_once(model)
    for ours, theirs in zip(found[1][0], found[0][0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    assert found[1][1] <= found[0][1] - 3 * 4 * 10, "gelu(gate) is not kept"
