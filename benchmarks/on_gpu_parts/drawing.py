"""The generator: text encoder, denoiser, autoencoder, video files, and sampling from text to mp4."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.dpo_step import make_generator
from benchmarks.on_gpu_parts.counting import counted
from benchmarks.on_gpu_parts.results import Work
from benchmarks.on_gpu_parts.session import Session
from generators.families.t2v_turbo import T2VTurbo
from generators.sampling import SamplingItem, sample_videos
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.video import write_video

TEXT = "a red circle moving left fast on a teal background"
STEP = 519
"""A timestep in the middle, one of those that T2V-Turbo was distilled on."""


def generator_of(session: Session) -> T2VTurbo:
    """The generator of the session's size, with plain forwards."""
    return session.model("generator", lambda: make_generator("real" if session.real else "small", session.device))


def forward_of(generator: T2VTurbo, batch: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """A forward of the denoiser on ``batch`` videos, and what it reads and writes beside weights."""
    noisy = generator.noise_batch(list(range(batch)))
    embeds = generator.encode_prompts([TEXT]).to(noisy.device).expand(batch, -1, -1)
    timesteps, settings = torch.tensor([STEP] * batch, device=noisy.device), [generator.settings] * batch

    @torch.no_grad()
    def forward() -> Tensor:
        return generator.predict(noisy, timesteps, embeds, settings)

    return forward, [noisy, noisy, embeds]


def work_of_forward(session: Session, generator: T2VTurbo, batch: int) -> Work:
    """The counted work of such a forward, which is made once."""
    forward, tensors = forward_of(generator, batch)
    return counted(forward, session.ceilings, generator.denoiser, *tensors)


def text(session: Session) -> None:
    """The text encoder on one prompt."""
    generator = generator_of(session)

    def encode() -> Tensor:
        return generator.encode_prompts([TEXT])

    work = counted(encode, session.ceilings, generator.pipeline.text_encoder)
    predicted = session.predict("one prompt", work)
    session.record("one prompt", session.time(encode), "prompt", predicted)


def denoiser(session: Session) -> None:
    """Forwards of the denoiser, as separate kernels, at several batches."""
    for batch in session.size.denoised:
        session.attempt(f"batch {batch}", 1.0 + batch / 2, _denoised, session, batch, "eager")


def _denoised(session: Session, batch: int, way: str) -> None:
    generator, what = generator_of(session), f"batch {batch}, {way}"
    work = work_of_forward(session, generator, batch)
    predicted = session.predict(what, work)
    forward, _ = forward_of(generator, batch)
    began = time.perf_counter()
    forward()
    session.wait()
    first = time.perf_counter() - began
    session.record(
        what, session.time(forward), "forward", predicted, videos=batch, first=first, **_eager(session, work)
    )


def _eager(session: Session, work: Work) -> dict[str, float]:
    seconds, _ = work.eager(session.ceilings)
    return {"operator_by_operator": seconds, "launches": work.launches, "tera_operations": work.operations / 1e12}


def compiled(session: Session) -> None:
    """Denoiser, autoencoder and sampling as ``speed: compiled`` has them, and how far its values are from eager."""
    generator, batch = generator_of(session), session.size.batch
    works = {videos: work_of_forward(session, generator, videos) for videos in (batch, 2 * batch)}
    decoding, latents = work_of_decoding(session, generator), latents_of(generator, 1)
    eager = forward_of(generator, batch)[0](), generator.decode(latents)
    try:
        with generator.at_speed("compiled"):
            for videos, work in works.items():
                session.attempt(f"batch {videos}", 15.0, _compiled, session, videos, work)
            session.attempt("decode", 5.0, _decoded, session, decoding)
            session.attempt("against eager", 3.0, _compared, session, eager)
        session.attempt("text to mp4", 20.0, _sampled_fast, session)
    finally:
        session.forget()


def _compiled(session: Session, batch: int, work: Work) -> None:
    what = f"batch {batch}, compiled"
    predicted = session.predict(what, work)
    forward, _ = forward_of(generator_of(session), batch)
    began = time.perf_counter()
    forward()
    session.wait()
    session.record(f"batch {batch}, to compile", time.perf_counter() - began, "model")
    session.record(what, session.time(forward), "forward", predicted, videos=batch)


def _decoded(session: Session, work: Work) -> None:
    generator = generator_of(session)
    latents, predicted = latents_of(generator, 2), session.predict("decode, compiled", work)
    generator.decode(latents)
    seconds = session.time(lambda: generator.decode(latents), repeats=3) / 2
    session.record("decode, compiled", seconds, "video", predicted)


def _compared(session: Session, eager: tuple[Tensor, Tensor]) -> None:
    generator = generator_of(session)
    predicted, frames = eager
    ours, drawn = forward_of(generator, session.size.batch)[0](), generator.decode(latents_of(generator, len(frames)))
    apart = float((ours - predicted).norm() / predicted.norm())
    grey = float((drawn.float() - frames.float()).abs().mean())
    session.say(f"compiled against eager: denoiser {apart:.1e} of its norm, frames {grey:.2f} grey levels of 255")


def _sampled_fast(session: Session) -> None:
    with generator_of(session).at_speed("compiled"):
        _sampled(session, "text to mp4, compiled")


def latents_of(generator: T2VTurbo, videos: int) -> Tensor:
    """Latents of noise, for ``videos``."""
    return generator.noise_batch(list(range(videos)))


def work_of_decoding(session: Session, generator: T2VTurbo) -> Work:
    """The counted work of decoding one video, which is done once."""
    latents = latents_of(generator, 1)
    return counted(lambda: generator.decode(latents), session.ceilings, generator.pipeline.vae, latents)


def autoencoder(session: Session) -> None:
    """Latents to frames on the CPU, and back."""
    generator = generator_of(session)
    work = work_of_decoding(session, generator)
    predicted, latents = session.predict("decode", work), latents_of(generator, 2)
    frames = generator.decode(latents)
    seconds = session.time(lambda: generator.decode(latents), repeats=3) / 2
    session.record("decode", seconds, "video", predicted, **_eager(session, work))
    session.attempt("encode", 4.0, _encoded, session, frames[:1])


def _encoded(session: Session, frames: Tensor) -> None:
    generator = generator_of(session)
    vae = generator.pipeline.vae
    work = counted(lambda: generator.encode(frames), session.ceilings, vae, frames)
    predicted = session.predict("encode", work)
    session.record("encode", session.time(lambda: generator.encode(frames), repeats=3), "video", predicted)


def writing(session: Session) -> None:
    """Frames to an mp4 file, on one processor."""
    generator = generator_of(session)
    frames = generator.decode(latents_of(generator, 1))[0].cpu().numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        seconds = session.time(lambda: write_video(path, frames, generator.settings.fps), repeats=3)
        session.record("x264, one thread", seconds, "video", kilobytes=path.stat().st_size / 1e3)


def work_of_video(session: Session, generator: T2VTurbo, batch: int) -> Work:
    """The counted work of one of ``batch`` videos that are drawn together: denoiser steps and decoder."""
    steps = work_of_forward(session, generator, batch).times(generator.settings.steps / batch)
    return steps.and_also(work_of_decoding(session, generator))


def sampling(session: Session) -> None:
    """Text to mp4 as ``pipelines.sample`` draws."""
    generator = generator_of(session)
    what = "text to mp4"
    predicted = session.predict(what, work_of_video(session, generator, session.size.batch))
    session.attempt(what, 25.0, _sampled, session, what, predicted)


def _sampled(session: Session, what: str, predicted: tuple[float | None, str] = (None, "")) -> None:
    size = session.size
    with tempfile.TemporaryDirectory() as folder:
        # The first batch warms up, in a folder of its own.
        draw(session, Path(folder) / "first", size.batch)
        session.free()
        moments = draw(session, Path(folder) / "timed", size.drawn)
    seconds, steady = moments[-1] - moments[0], (moments[-1] - moments[1]) / (size.drawn - size.batch)
    session.record(
        what, seconds / size.drawn, "video", predicted, videos=size.drawn, a_second=size.drawn / seconds,
        after_the_first_batch=1 / steady,
    )  # fmt: skip


def draw(session: Session, folder: Path, videos: int) -> list[float]:
    """When drawing began and each batch was written, the last once all files are there: ``videos``, two of each prompt,
    in ``folder``.
    """
    generator = generator_of(session)
    texts = [f"{TEXT} {number}" for number in range(-(-videos // 2))]
    items = [SamplingItem(Prompt.of(text), i, seed_for("bench", text, i)) for text in texts for i in (0, 1)][:videos]
    moments = [time.perf_counter()]
    for _ in sample_videos(
        generator, items, folder, root=folder, version="G_0", round_number=0, batch_size=session.size.batch
    ):
        moments.append(time.perf_counter())
    session.wait()
    return [*moments[:-1], time.perf_counter()]
