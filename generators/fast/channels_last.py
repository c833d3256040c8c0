"""A 3D UNet and an image autoencoder with channels last in memory from end to end, and in as few passes as there are
products: group norms with their activation, biases with what follows them, temporal convolutions as convolutions of
(frames, pixels), and temporal attention without a change of order.

Stock diffusers moves channels forth and back between convolutions, which want them last, and group norms, which want
them first, and goes once more over memory for every activation, bias and sum.
"""

from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel, TransformerTemporalModelOutput
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from generators.fast.fused import add_all, add_layer_norm, attend_over_time, gate, group_norm
from generators.fast.upsampling import can_sum, doubled_and_convolved, summed
from videoduet.rewriting import Rewrites


def keep_channels_last(model: nn.Module) -> Rewrites:
    """The change of a 3D UNet, or of an image autoencoder, after which it computes as above. What somebody replaced or
    configured otherwise than the released models have it keeps its way. Values differ by rounding alone.
    """
    rewrites = Rewrites()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            _weight_last(layer, rewrites)
        for kind, (fits, forward) in _FORMS.items():
            if type(layer) is kind and fits(layer):
                rewrites.forward(layer, MethodType(forward, layer))
        # Where images are large: a UNet's small ones gain less than a second kernel costs.
        if type(layer) is Upsample2D and isinstance(model, AutoencoderKL) and _doubles(layer):
            with torch.no_grad():
                if can_sum(_conv(layer)):
                    rewrites.forward(layer, partial(_summed_upsampled, layer, summed(_conv(layer).weight)))
    for norm, act in _last_norms(model):
        rewrites.forward(norm, MethodType(_normed_image, norm))
        rewrites.forward(act, lambda x: x)
    return rewrites


def _weight_last(layer: nn.Conv2d | nn.Conv3d, rewrites: Rewrites) -> None:
    weight = layer.weight
    layout = torch.channels_last if weight.ndim == 4 else torch.channels_last_3d
    weight.data = weight.data.contiguous(memory_format=layout)
    # The other way round again: a model that is saved or copied has its weights in the usual order.
    rewrites.add(lambda: setattr(weight, "data", weight.data.contiguous()))


def _last_norms(model: nn.Module) -> list[tuple[nn.GroupNorm, nn.Module]]:
    """The norm and activation before each part's last convolution."""
    pairs = [(getattr(m, "conv_norm_out", None), getattr(m, "conv_act", None)) for m in model.modules()]
    return [(norm, act) for norm, act in pairs if isinstance(norm, nn.GroupNorm) and isinstance(act, nn.SiLU)]


def _rows(x: Tensor) -> Tensor:
    """x (N, C, H, W) as rows (N, H·W, C): without a copy where channels lie last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def _image(rows: Tensor, height: int, width: int) -> Tensor:
    """Rows (N, H·W, C) as an image (N, C, H, W) with channels last."""
    return rows.reshape(rows.shape[0], height, width, -1).permute(0, 3, 1, 2)


def _normed_image(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return _image(group_norm(_rows(x), norm, act=True), *x.shape[2:])


def _convolved(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The convolution of x without its bias, and the bias; of a wrapped layer the whole, and None."""
    if type(layer) is not nn.Conv2d:
        return layer(x), None
    if layer.kernel_size == (1, 1):
        return _image(F.linear(_rows(x), layer.weight.flatten(1)), *x.shape[2:]), layer.bias
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups), layer.bias


def _convolved_over_time(layer: nn.Module, rows: Tensor, frames: int) -> tuple[Tensor, Tensor | None]:
    """The same for a kernel over time and rows (B, T·S, C), as an image of T by S."""
    videos, length, channels = rows.shape
    image = rows.reshape(videos, frames, length // frames, channels).permute(0, 3, 1, 2)
    if type(layer) is not nn.Conv3d:
        return _rows(layer(image.unsqueeze(-1)).squeeze(-1)), None
    return _rows(F.conv2d(image, layer.weight[..., 0], None, padding=layer.padding[:2])), layer.bias


def _is_plain_resnet(block: ResnetBlock2D) -> bool:
    return (
        isinstance(block.nonlinearity, nn.SiLU)
        # The second, an autoencoder's, is told no time.
        and block.time_embedding_norm in ("default", "group")
        and not (block.up or block.down or block.skip_time_act)
        and isinstance(block.norm1, nn.GroupNorm)
        and isinstance(block.norm2, nn.GroupNorm)
    )


def _resnet(block: ResnetBlock2D, input_tensor: Tensor, temb: Tensor | None = None) -> Tensor:
    size = input_tensor.shape[2:]
    h = group_norm(_rows(input_tensor), block.norm1, act=True)
    h, add = _convolved(block.conv1, _image(h, *size))
    if temb is not None and block.time_emb_proj is not None:
        shift = block.time_emb_proj(F.silu(temb))
        add = shift if add is None else shift.float() + add.float()
    h = block.dropout(group_norm(_rows(h), block.norm2, act=True, add=add))
    h, bias = _convolved(block.conv2, _image(h, *size))
    if block.conv_shortcut is not None:
        input_tensor, more = _convolved(block.conv_shortcut, input_tensor)
        bias = more if bias is None else bias if more is None else bias.float() + more.float()
    out = _image(add_all(_rows(h), bias, _rows(input_tensor)), *size)
    return out if block.output_scale_factor == 1 else out / block.output_scale_factor


def _is_plain_temporal(layer: TemporalConvLayer) -> bool:
    parts = (layer.conv1, layer.conv2, layer.conv3, layer.conv4)
    return all(isinstance(part[0], nn.GroupNorm) and isinstance(part[1], nn.SiLU) for part in parts)


def _temporal(layer: Any, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
    rows = _rows(hidden_states)
    h = rows = rows.reshape(-1, num_frames * rows.shape[1], rows.shape[2])
    bias = None
    for norm, _, *dropout, conv in (layer.conv1, layer.conv2, layer.conv3, layer.conv4):
        h = group_norm(h, norm, act=True, add=bias)
        for part in dropout:
            h = part(h)
        h, bias = _convolved_over_time(conv, h, num_frames)
    h = add_all(h, bias, rows)
    return _image(h.reshape(hidden_states.shape[0], -1, h.shape[2]), *hidden_states.shape[2:])


def _is_plain_attention(attn: Attention) -> bool:
    norms = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k)
    adds_nothing = not attn.residual_connection and attn.rescale_output_factor == 1
    return type(attn.processor) is AttnProcessor2_0 and adds_nothing and all(norm is None for norm in norms)


def _is_image_attention(attn: Attention) -> bool:
    norms = (attn.spatial_norm, attn.norm_q, attn.norm_k)
    plain = type(attn.processor) is AttnProcessor2_0 and all(norm is None for norm in norms)
    return plain and isinstance(attn.group_norm, nn.GroupNorm) and attn.residual_connection


def _image_attention(attn: Any, hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """An autoencoder's attention of an image's positions to each other."""
    if arguments or any(value is not None for value in named.values()) or hidden_states.ndim != 4:
        return type(attn).forward(attn, hidden_states, *arguments, **named)
    rows = _rows(hidden_states)
    out = _attended(attn, group_norm(rows, attn.group_norm, act=False), None, None) + rows
    out = _image(out, *hidden_states.shape[2:])
    return out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor


def _is_plain_block(block: nn.Module) -> bool:
    if type(block) is not BasicTransformerBlock or block.norm_type != "layer_norm" or block.pos_embed is not None:
        return False
    plain = block._chunk_size is None and not hasattr(block, "fuser") and not block.only_cross_attention
    norms = [block.norm1, block.norm3, *([block.norm2] if block.attn2 is not None else [])]
    affine = all(type(norm) is nn.LayerNorm and norm.weight is not None and norm.bias is not None for norm in norms)
    attentions = [attn for attn in (block.attn1, block.attn2) if attn is not None]
    return plain and affine and type(block.ff.net[0]) is GEGLU and all(map(_is_plain_attention, attentions))


def _attended(attn: Any, h: Tensor, text: Tensor | None, frames: int | None) -> Tensor:
    """Attention of rows ``h`` to themselves, over time for ``frames``, or to a ``text`` (N, L, D)."""
    source = h if text is None else text
    q, k, v = attn.to_q(h), attn.to_k(source), attn.to_v(source)
    if frames is not None and text is None:
        attended = attend_over_time(q, k, v, attn.heads, frames)
    else:
        q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return attn.to_out[1](attn.to_out[0](attended))


def _block(block: Any, x: Tensor, text: Tensor | None, frames: int | None) -> Tensor:
    x, h = add_layer_norm(x, None, block.norm1)
    y = _attended(block.attn1, h, None, frames)
    if block.attn2 is not None:
        x, h = add_layer_norm(x, y, block.norm2)
        y = _attended(block.attn2, h, text, frames)
    x, h = add_layer_norm(x, y, block.norm3)
    up, *rest = block.ff.net
    h = gate(up.proj(h))
    for part in rest:
        h = part(h)
    return x + h


def _is_plain_2d(model: Transformer2DModel) -> bool:
    linear = model.is_input_continuous and model.use_linear_projection
    return linear and all(map(_is_plain_block, model.transformer_blocks))


def _transformer_2d(
    model: Transformer2DModel, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
    return_dict: bool = True, **named: Any,
) -> Any:  # fmt: skip
    if any(value is not None for value in named.values()):
        return type(model).forward(model, hidden_states, encoder_hidden_states, return_dict=return_dict, **named)
    rows = _rows(hidden_states)
    h = model.proj_in(group_norm(rows, model.norm, act=False))
    for block in model.transformer_blocks:
        h = _block(block, h, encoder_hidden_states, None)
    out = _image(model.proj_out(h) + rows, *hidden_states.shape[2:])
    return Transformer2DModelOutput(sample=out) if return_dict else (out,)


def _is_plain_in_time(model: TransformerTemporalModel) -> bool:
    return all(_is_plain_block(block) and not _reads_text(block) for block in model.transformer_blocks)


def _reads_text(block: Any) -> bool:
    return block.attn2 is not None and block.attn2.is_cross_attention


def _transformer_in_time(
    model: TransformerTemporalModel, hidden_states: Tensor, encoder_hidden_states: Any = None,
    num_frames: int = 1, return_dict: bool = True, **named: Any,
) -> Any:  # fmt: skip
    if encoder_hidden_states is not None or any(value is not None for value in named.values()):
        named |= {"num_frames": num_frames, "return_dict": return_dict}
        return type(model).forward(model, hidden_states, encoder_hidden_states, **named)
    rows = _rows(hidden_states)
    rows = rows.reshape(-1, num_frames * rows.shape[1], rows.shape[2])
    h = model.proj_in(group_norm(rows, model.norm, act=False))
    for block in model.transformer_blocks:
        h = _block(block, h, None, num_frames)
    out = (model.proj_out(h) + rows).reshape(hidden_states.shape[0], -1, rows.shape[2])
    out = _image(out, *hidden_states.shape[2:])
    return TransformerTemporalModelOutput(sample=out) if return_dict else (out,)


def _doubles(layer: Upsample2D) -> bool:
    return layer.interpolate and layer.use_conv and not layer.use_conv_transpose and layer.norm is None


def _upsampled(layer: Upsample2D, hidden_states: Tensor, output_size: Any = None) -> Tensor:
    samples, channels, height, width = hidden_states.shape
    if output_size is not None and tuple(output_size) != (2 * height, 2 * width):
        return type(layer).forward(layer, hidden_states, output_size)
    rows = hidden_states.permute(0, 2, 3, 1)[:, :, None, :, None]
    rows = rows.expand(samples, height, 2, width, 2, channels).reshape(samples, -1, channels)
    return _conv(layer)(_image(rows, 2 * height, 2 * width))


def _summed_upsampled(layer: Upsample2D, weight: Tensor, hidden_states: Tensor, output_size: Any = None) -> Tensor:
    if output_size is not None or not can_sum(_conv(layer)):
        return _upsampled(layer, hidden_states, output_size)
    return doubled_and_convolved(hidden_states, _conv(layer), weight)


def _conv(layer: Upsample2D) -> Any:
    return layer.conv if layer.name == "conv" else layer.Conv2d_0


_FORMS: dict[type[nn.Module], tuple[Any, Any]] = {
    Attention: (_is_image_attention, _image_attention),
    ResnetBlock2D: (_is_plain_resnet, _resnet),
    TemporalConvLayer: (_is_plain_temporal, _temporal),
    Transformer2DModel: (_is_plain_2d, _transformer_2d),
    TransformerTemporalModel: (_is_plain_in_time, _transformer_in_time),
    Upsample2D: (_doubles, _upsampled),
}
