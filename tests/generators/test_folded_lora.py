"""A LoRA layer in one product is PEFT's layer: its values, its gradients, its adapters on and off."""

from copy import deepcopy

import pytest
import torch
from diffusers import UNet3DConditionModel
from one_layer import OneLayer
from peft import LoraConfig, get_peft_model
from torch import nn

from generators.fast.folded_lora import fold_lora

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


def values_and_gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    given = x.clone().requires_grad_(True)
    y = model(given)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return {"y": y.detach(), "x": given.grad, **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


@pytest.mark.parametrize("rank", [1, 8])  # narrow: the factors' gradients one by one; wide: through the weight's
@pytest.mark.parametrize("kind", LAYERS)
def test_values_and_gradients_are_those_of_peft(kind, rank):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    plain = with_lora(make().double(), rank).double()
    folded = deepcopy(plain)
    fold_lora(folded)
    x = torch.randn(shape, dtype=torch.float64)
    expected, found = values_and_gradients(plain, x), values_and_gradients(folded, x)
    assert len(expected) == 4 and found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11, msg=f"{kind}, {name}")


@pytest.mark.parametrize("rank", [4, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_on_a_cpu_go_to_oneDNN(rank, threads):
    torch.manual_seed(0)
    plain = with_lora(nn.Linear(48, 64), rank)
    folded = deepcopy(plain)
    fold_lora(folded)
    x, before = torch.randn(8, 128, 48), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            found = values_and_gradients(folded, x)
    finally:
        torch.set_num_threads(before)
    kernels = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_convolution" in kernels and "aten::_slow_conv2d_forward" not in kernels
    for name, value in values_and_gradients(plain, x).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * value.abs().max().item(), msg=name)


@pytest.mark.parametrize("case", ["few rows", "rows that are not shared out", "without oneDNN", "no rows", "double"])
def test_other_rows_are_products_of_matrices(case, monkeypatch):
    shape = {"few rows": (4, 48), "rows that are not shared out": (1025, 48), "no rows": (0, 48)}.get(case, (1024, 48))
    model = with_lora(nn.Linear(48, 64), 4)
    x = torch.randn(shape)
    if case == "double":
        model, x = model.double(), x.double()
    expected = model(x)
    fold_lora(model)
    monkeypatch.setattr(torch.nn.functional, "conv2d", None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: case != "without oneDNN")
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    model(x).sum().backward()


@pytest.mark.parametrize("rows", [4, 1024])
def test_a_lora_of_zeros_is_its_base_to_the_last_bit(rows):
    model = get_peft_model(OneLayer(nn.Linear(48, 64)), LoraConfig(r=4, target_modules=["layer"]))
    fold_lora(model)
    x = torch.randn(rows, 48)
    with model.disable_adapter():
        base = model(x)
    assert torch.equal(model(x), base)


def test_a_merged_adapter_is_added_once():
    model = with_lora(nn.Linear(5, 7), 2)
    x = torch.randn(3, 5)
    expected = model(x)
    fold_lora(model)
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), expected)


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


@pytest.mark.parametrize("padding", [{"padding_mode": "circular", "padding": 1}, {"padding": "same"}])
def test_other_padding_stays_as_it_is(padding):
    model = with_lora(nn.Conv2d(3, 4, 3, **padding), 2)
    x = torch.randn(2, 3, 6, 5)
    expected = model(x)
    fold_lora(model)
    assert torch.equal(model(x), expected)


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
    from generators.fast.recomputation import recompute_all

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
    recompute_all(unet)
    again = gradients()
    for name, expected in plain.items():
        torch.testing.assert_close(once[name], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(again[name], once[name], rtol=1e-5, atol=1e-7)
