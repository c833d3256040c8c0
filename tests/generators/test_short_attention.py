"""Temporal attention of neighbouring pixels in one call is diffusers' attention of each by itself."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from generators.fast.short_attention import LENGTH, ShortAttention, attend_together


@pytest.mark.parametrize(
    ("frames", "height"),
    [(8, 4), (4, 4), (4, 3), (7, 1), (8, 1), (1, 5), (LENGTH, 2), (LENGTH + 3, 2)],
)
def test_values_and_gradients_are_those_of_diffusers(frames, height):
    torch.manual_seed(0)
    model = TransformerTemporalModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=8, num_layers=1, norm_num_groups=2
    ).eval()
    x = torch.randn(frames, 8, height, 3, requires_grad=True)
    weights, found = torch.randn(frames, 8, height, 3), []
    for _ in ("diffusers", "together"):
        model.zero_grad()
        y = model(x, num_frames=frames).sample
        (dx,) = torch.autograd.grad((y * weights).sum(), x, retain_graph=True)
        (y * weights).sum().backward()
        found.append([y, dx, *(p.grad.clone() for p in model.parameters())])
        attend_together(model)
    assert all(type(part.processor) is ShortAttention for part in model.modules() if isinstance(part, Attention))
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_pixels_do_not_see_each_other():
    torch.manual_seed(0)
    model = TransformerTemporalModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=8, num_layers=1, norm_num_groups=2
    ).eval()
    attend_together(model)
    attention, x = model.transformer_blocks[0].attn1, torch.randn(6, 4, 8)
    changed = x.clone()
    changed[3] += 1.0
    before, after = attention(x), attention(changed)
    differs = (before - after).abs().amax((1, 2)) > 1e-6
    assert differs.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("text", [6, 8])
def test_attention_to_a_text_stays_as_it_is(text):
    model = TransformerTemporalModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=8, num_layers=1, norm_num_groups=2,
        cross_attention_dim=text, double_self_attention=False,
    ).eval()  # fmt: skip
    x, states = torch.randn(4, 8, 4, 3), torch.randn(12, 5, text)
    expected = model(x, states, num_frames=4).sample
    attend_together(model)
    assert type(model.transformer_blocks[0].attn1.processor) is ShortAttention
    torch.testing.assert_close(model(x, states, num_frames=4).sample, expected, rtol=1e-4, atol=2e-5)


def test_a_processor_that_somebody_chose_stays():
    model = TransformerTemporalModel(num_attention_heads=1, attention_head_dim=4, in_channels=4, norm_num_groups=2)
    model.transformer_blocks[0].attn1.set_processor(AttnProcessor())
    attend_together(model)
    assert type(model.transformer_blocks[0].attn1.processor) is AttnProcessor
