"""Triton kernels over rows of channels: what a denoiser and an autoencoder do between their products, each in as few
passes over memory as its definition needs. :mod:`generators.fast.fused` calls them, and says what they compute.

Rows are (N, S, C) contiguous: N samples of S positions, channels last. Sums are in float32 whatever the rows are in.
"""

# What is written here is Triton's own language, which only looks like Python's.
# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportPossiblyUnboundVariable=false
import triton
import triton.language as tl


@triton.jit
def channel_sums(x, sums, S, C, chunks, ROWS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sums and sums of squares (N, chunks, 2, C) of each channel over each chunk of ROWS rows."""
    sample, chunk, block = tl.program_id(1), tl.program_id(0), tl.program_id(2)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    within = channels < C
    first = tl.zeros((BLOCK_S, BLOCK_C), tl.float32)
    second = tl.zeros((BLOCK_S, BLOCK_C), tl.float32)
    base = x + sample.to(tl.int64) * S * C
    for start in range(0, ROWS, BLOCK_S):
        rows = chunk * ROWS + start + tl.arange(0, BLOCK_S)
        mask = (rows < S)[:, None] & within[None, :]
        values = tl.load(base + rows.to(tl.int64)[:, None] * C + channels[None, :], mask, 0.0).to(tl.float32)
        first += values
        second += values * values
    out = sums + (sample * chunks + chunk).to(tl.int64) * 2 * C
    tl.store(out + channels, tl.sum(first, 0), within)
    tl.store(out + C + channels, tl.sum(second, 0), within)


@triton.jit
def group_scales(
    sums, weight, bias, add, scales, S, C, chunks, add_stride, eps, WIDTH: tl.constexpr, HAS_ADD: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_CHUNKS: tl.constexpr,
):  # fmt: skip
    """Scale and shift (N, 2, C) that normalise x + add by groups of WIDTH channels: x·scale + shift."""
    sample, group = tl.program_id(0), tl.program_id(1)
    lanes = tl.arange(0, BLOCK_W)
    within = lanes < WIDTH
    channels = group * WIDTH + lanes
    chunk = tl.arange(0, BLOCK_CHUNKS)
    at = sums + (sample * chunks + chunk).to(tl.int64)[:, None] * 2 * C + channels[None, :]
    mask = (chunk < chunks)[:, None] & within[None, :]
    mean = tl.sum(tl.load(at, mask, 0.0), 0) / S
    square = tl.sum(tl.load(at + C, mask, 0.0), 0) / S
    if HAS_ADD:
        extra = tl.load(add + sample * add_stride + channels, within, 0.0).to(tl.float32)
        square += extra * (2 * mean + extra)
        mean += extra
    centre = tl.sum(mean, 0) / WIDTH
    # Around the group's mean, not the origin: each channel's own spread, and how far its mean lies off.
    spread = tl.where(within, square - mean * mean + (mean - centre) * (mean - centre), 0.0)
    rstd = tl.rsqrt(tl.maximum(tl.sum(spread, 0) / WIDTH, 0.0) + eps)
    scale = rstd * tl.load(weight + channels, within, 0.0).to(tl.float32)
    shift = tl.load(bias + channels, within, 0.0).to(tl.float32) - centre * scale
    if HAS_ADD:
        shift += extra * scale
    out = scales + sample.to(tl.int64) * 2 * C
    tl.store(out + channels, scale, within)
    tl.store(out + C + channels, shift, within)


@triton.jit
def scaled(x, scales, y, S, C, ACT: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """y = x·scale + shift, and its SiLU for ACT."""
    sample, block = tl.program_id(1), tl.program_id(2)
    channels = block * BLOCK_C + tl.arange(0, BLOCK_C)
    within = channels < C
    rows = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    scale = tl.load(scales + sample.to(tl.int64) * 2 * C + channels, within, 0.0)
    shift = tl.load(scales + sample.to(tl.int64) * 2 * C + C + channels, within, 0.0)
    at = (sample.to(tl.int64) * S + rows)[:, None] * C + channels[None, :]
    mask = (rows < S)[:, None] & within[None, :]
    values = tl.load(x + at, mask, 0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if ACT:
        values = values * tl.sigmoid(values)
    tl.store(y + at, values.to(y.dtype.element_ty), mask)


@triton.jit
def added(x, bias, residual, y, rows, C, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """y = x + bias + residual of rows laid end to end; y may be x."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    within = channels < C
    at, mask = row[:, None] * C + channels[None, :], (row < rows)[:, None] & within[None, :]
    values = tl.load(x + at, mask, 0.0).to(tl.float32) + tl.load(residual + at, mask, 0.0).to(tl.float32)
    values += tl.load(bias + channels, within, 0.0).to(tl.float32)[None, :]
    tl.store(y + at, values.to(y.dtype.element_ty), mask)


@triton.jit
def interleaved(coarse, bias, fine, rows, H, W, C, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """fine (N, 2H, 2W, C), of ``rows`` pixels, from coarse (N, H + 1, W + 1, 4·C): see the caller."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    within = channels < C
    x, y, sample = row % (2 * W), row // (2 * W) % (2 * H), row // (4 * H * W)
    pixel = (sample * (H + 1) + y // 2 + y % 2) * (W + 1) + x // 2 + x % 2
    at = (4 * pixel + 2 * (y % 2) + x % 2)[:, None] * C + channels[None, :]
    mask = (row < rows)[:, None] & within[None, :]
    values = tl.load(coarse + at, mask, 0.0).to(tl.float32)
    values += tl.load(bias + channels, within, 0.0).to(tl.float32)[None, :]
    tl.store(fine + row[:, None] * C + channels[None, :], values.to(fine.dtype.element_ty), mask)


@triton.jit
def gated(h, y, rows, W, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr):
    """y (rows, W) = x·gelu(gate) of h (rows, 2W) = (x, gate)."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    lanes = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    mask = (row < rows)[:, None] & (lanes < W)[None, :]
    at = row[:, None] * 2 * W + lanes[None, :]
    x, gate = tl.load(h + at, mask, 0.0).to(tl.float32), tl.load(h + W + at, mask, 0.0).to(tl.float32)
    gelu = 0.5 * gate * (1 + tl.erf(gate * 0.7071067811865476))
    tl.store(y + row[:, None] * W + lanes[None, :], (x * gelu).to(y.dtype.element_ty), mask)


@triton.jit
def layer_normed(
    x, add, total, y, weight, bias, rows, C, eps, HAS_ADD: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):
    """y = layer norm of total = x + add, each row by itself."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    lanes = tl.arange(0, BLOCK_C)
    within = lanes < C
    mask = (row < rows)[:, None] & within[None, :]
    at = row[:, None] * C + lanes[None, :]
    values = tl.load(x + at, mask, 0.0).to(tl.float32)
    if HAS_ADD:
        values += tl.load(add + at, mask, 0.0).to(tl.float32)
        tl.store(total + at, values.to(total.dtype.element_ty), mask)
    mean = tl.sum(values, 1) / C
    centred = tl.where(within[None, :], values - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / C + eps)
    scale, shift = tl.load(weight + lanes, within, 0.0), tl.load(bias + lanes, within, 0.0)
    out = centred * rstd[:, None] * scale.to(tl.float32)[None, :] + shift.to(tl.float32)[None, :]
    tl.store(y + at, out.to(y.dtype.element_ty), mask)


@triton.jit
def attended_over_time(
    q, k, v, y, pixels, q_row, k_row, v_row, y_row, scale, T: tl.constexpr, D: tl.constexpr, PIXELS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Self-attention over the T frames of PIXELS neighbouring pixels, hidden from each other by a mask; rows of q, k, v
    and y lie in the order (video, frame, pixel), heads of D channels side by side.
    """
    block, head, video = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    lane = tl.arange(0, BLOCK_M)
    pixel = block * PIXELS + lane // T
    inside = (lane < PIXELS * T) & (pixel < pixels)
    rows = (video.to(tl.int64) * T + lane % T) * pixels + pixel
    channels = tl.arange(0, BLOCK_D)
    mask = inside[:, None] & (channels < D)[None, :]
    columns = head * D + channels
    queries = tl.load(q + rows[:, None] * q_row + columns[None, :], mask, 0.0)
    keys = tl.load(k + rows[:, None] * k_row + columns[None, :], mask, 0.0)
    values = tl.load(v + rows[:, None] * v_row + columns[None, :], mask, 0.0)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
    # A lane outside of all pixels sees itself, so that no row is empty.
    scores = tl.where((lane // T)[:, None] == (lane // T)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    total = tl.sum(weights, 1)
    out = tl.dot(weights.to(values.dtype), values, input_precision="ieee") / total[:, None]
    tl.store(y + rows[:, None] * y_row + columns[None, :], out.to(y.dtype.element_ty), mask)
