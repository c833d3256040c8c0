"""What the device can do at best, in the ways that the models use it."""

import torch

from benchmarks.on_gpu_parts.results import Ceilings
from benchmarks.on_gpu_parts.session import Session

LAUNCHES = 1000
"""Small kernels in a row, by which the cost of a launch is measured."""


def product(session: Session, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a product of two square matrices of random numbers."""
    one, other = (torch.randn(size, size, device=session.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(one)
    torch.mm(one, other, out=out)
    return 2.0 * size**3 / session.time(lambda: torch.mm(one, other, out=out), repeats=10)


def ceilings(session: Session) -> Ceilings:
    """Measured: products in the models' precision and in float32, a copy, a launch."""
    size, device = session.size, session.device
    source = torch.randint(256, (size.copied,), device=device, dtype=torch.uint8)
    target, small = torch.empty_like(source), torch.ones(1, device=device)
    target.copy_(source)

    def launch() -> None:
        for _ in range(LAUNCHES):
            small.add_(1.0)

    launch()
    return Ceilings(
        operations=product(session, torch.bfloat16 if device == "cuda" else torch.float32, size.product),
        float32_operations=product(session, torch.float32, size.product // 2),
        bytes=2.0 * size.copied / session.time(lambda: target.copy_(source), repeats=10),
        launch=session.time(launch) / LAUNCHES,
    )
