"""The heaviest kernels of a denoiser's forward and of the decoder."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu_parts.drawing import forward_of, generator_of, latents_of
from benchmarks.on_gpu_parts.session import Session

HEAVIEST = 20


def heaviest(session: Session, call: Callable[[], Any]) -> list[dict[str, Any]]:
    """The kernels (on a CPU: operators) of ``call`` that take most, with their seconds, calls and share of all."""
    call()
    session.wait()
    on_device = session.device == "cuda"
    activities = [ProfilerActivity.CUDA if on_device else ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        call()
        session.wait()
    found = [
        (event.self_device_time_total if on_device else event.self_cpu_time_total, event)
        for event in profiler.key_averages()
        if event.device_type.name == ("CUDA" if on_device else "CPU")
    ]
    total = sum(microseconds for microseconds, _ in found) or 1.0
    found.sort(key=lambda pair: -pair[0])
    return [
        {"kernel": event.key[:160], "seconds": time / 1e6, "calls": event.count, "share": time / total}
        for time, event in found[:HEAVIEST]
    ]


def kernels(session: Session) -> None:
    """What the denoiser (the batch that is sampled) and the decoder spend their time in."""
    generator = generator_of(session)
    forward, _ = forward_of(generator, session.size.batch)
    latents = latents_of(generator, 1)
    for what, call in (("denoiser", forward), ("decoder", lambda: generator.decode(latents))):
        session.attempt(what, 5.0, _tell, session, what, call)


def _tell(session: Session, what: str, call: Callable[[], Any]) -> None:
    found = session.results.kernels[what] = heaviest(session, call)
    session.say(f"{what}: the {len(found)} heaviest kernels")
    for kernel in found:
        spent = f"{1e3 * kernel['seconds']:9.3f} ms {kernel['share']:6.1%} {kernel['calls']:6d} x"
        print(f"  {spent} {kernel['kernel'][:110]}", flush=True)
