"""A LoRA layer in one product is PEFT's layer: its values, its gradients, its adapters on and off."""

from copy import deepcopy

import pytest
import torch
from diffusers import UNet3DConditionModel
from peft import LoraConfig, get_peft_model
from torch import nn

from alignment.folded_lora import fold_lora


class OneLayer(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


LAYERS = {
    "linear": (lambda: nn.Linear(5, 7), (2, 3, 5)),
    "linear without bias": (lambda: nn.Linear(5, 7, bias=False), (4, 5)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 5)),
    "pointwise convolution": (lambda: nn.Conv2d(6, 4, 1), (2, 6, 3, 2)),
    "temporal convolution": (lambda: nn.Conv3d(3, 4, (3, 1, 1), padding=(1, 0, 0)), (2, 3, 5, 2, 2)),
}


def with_lora(layer: nn.Module, rank: int, **options) -> nn.Module:
    model = get_peft_model(
        OneLayer(layer), LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=["layer"], **options)
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


# In float32 a linear layer on a CPU is a convolution over points.
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rank", [1, 8])  # narrow: the factors' gradients one by one; wide: through the weight's
@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_gradients_are_those_of_peft(kind, rank, dtype):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    plain = with_lora(make().to(dtype), rank).to(dtype)
    folded = deepcopy(plain)
    fold_lora(folded)
    exact = dtype == torch.float64
    x = torch.randn(shape, dtype=dtype)
    weights = torch.randn_like(plain(x))
    gradients = []
    for model in (plain, folded):
        given = x.clone().requires_grad_(True)
        (model(given) * weights).sum().backward()
        named = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        gradients.append({**named, "x": given.grad})
    torch.testing.assert_close(folded(x), plain(x), rtol=0, atol=1e-12 if exact else 1e-5)
    assert set(gradients[0]) == set(gradients[1]) and len(gradients[0]) == 3
    for name, expected in gradients[0].items():
        atol = 1e-11 if exact else 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(gradients[1][name], expected, rtol=0, atol=atol, msg=f"{kind}, {name}")


def test_linear_layers_without_oneDNN(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    test_values_and_gradients_are_those_of_peft("linear", 8, torch.float32)


def test_a_batch_without_rows():
    model = with_lora(nn.Linear(5, 7), 2)
    fold_lora(model)
    assert model(torch.randn(0, 5)).shape == (0, 7)


def test_an_input_without_gradient_gets_none():
    model = with_lora(nn.Linear(5, 7), 2)
    fold_lora(model)
    model(torch.randn(3, 5)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_folded_layer_keeps_its_input_alone():
    model = with_lora(nn.Linear(64, 64), 32)
    kept = {}
    for name in ("plain", "folded"):
        seen = set()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.add(t.data_ptr()) or t, lambda t: t):
            model(torch.randn(1000, 64, requires_grad=True))
        kept[name] = len(seen - {p.data_ptr() for p in model.parameters()})
        fold_lora(model)
    assert kept == {"plain": 2, "folded": 1}


def test_adapters_switch_as_before():
    model = with_lora(nn.Linear(5, 7), 2)
    model.add_adapter("other", LoraConfig(r=3, target_modules=["layer"], init_lora_weights=False))
    x = torch.randn(3, 5)
    expected = {name: (model.set_adapter(name), model(x))[1] for name in ("default", "other")}
    with model.disable_adapter():
        expected["off"] = model(x)
    fold_lora(model)
    for name in ("default", "other"):
        model.set_adapter(name)
        torch.testing.assert_close(model(x), expected[name])
    with model.disable_adapter():
        assert torch.equal(model(x), expected["off"])


@pytest.mark.parametrize("case", ["half precision", "DoRA", "bias in the LoRA"])
def test_what_the_sum_would_spoil_stays_as_it_is(case):
    options = {"DoRA": {"use_dora": True}, "bias in the LoRA": {"lora_bias": True}}.get(case, {})
    layer = nn.Linear(16, 16).to(torch.bfloat16 if case == "half precision" else torch.float32)
    model = with_lora(layer, 2, **options)
    x = torch.randn(3, 16).to(layer.weight.dtype)
    expected = model(x)
    fold_lora(model)
    assert torch.equal(model(x), expected)


def test_a_whole_denoiser_with_checkpointing(modelscope_directory):
    from generators.checkpointing import checkpoint_unet

    unet = UNet3DConditionModel.from_pretrained(modelscope_directory / "unet")
    targets = r".*(to_q|to_v|resnets\.\d+\.conv[12]|conv1\.2|conv_in|conv_shortcut)"
    policy = get_peft_model(unet, LoraConfig(r=8, target_modules=targets, init_lora_weights=False)).eval()
    noisy, text = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 16)

    def gradients() -> dict[str, torch.Tensor]:
        policy.zero_grad()
        policy(noisy, torch.tensor([3, 700]), text).sample.square().mean().backward()
        return {name: p.grad.clone() for name, p in policy.named_parameters() if p.requires_grad}

    plain = gradients()
    fold_lora(policy)
    once = gradients()
    checkpoint_unet(unet)
    again = gradients()
    for name, expected in plain.items():
        torch.testing.assert_close(once[name], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(again[name], once[name], rtol=1e-5, atol=1e-7)
