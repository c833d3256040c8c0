"""Judging all pairs of one prompt's videos: ours, plain batched generation, one pair a call."""

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.judging import gap_at_first_difference, real_size_judge, write_clips
from benchmarks.on_gpu_parts.reading import JudgeWork
from benchmarks.on_gpu_parts.results import Work
from benchmarks.on_gpu_parts.session import Session
from pipelines.loop.config import parse
from reward_model import Judge
from reward_model.encoding import Showing, ShowingEncoder
from videoduet.config import resolve
from videoduet.records import VideoPair

Texts = list[tuple[str, str]]
"""Both orders' answers to each pair."""


def judge_of(session: Session) -> Any:
    """The judge of the session's size, a :class:`reward_model.Judge`."""
    if session.real:
        return session.model("judge", lambda: real_size_judge(session.device, 32, session.size.tokens))
    path = resolve(str(parse([])[0].judge.path))
    return session.model("judge", lambda: Judge.from_pretrained(path, device=session.device))


class Stages:
    """Seconds that a model spends on vision and on reading prompts, and an encoder on decoding, while it watches."""

    def __init__(self, session: Session):
        self.session, self.seconds = session, defaultdict(float)

    @contextmanager
    def __call__(self, model: Any) -> Iterator["Stages"]:
        """Watch ``model``."""
        handles = [
            *self._watch(model.model.visual, lambda inputs: "vision"),
            *self._watch(
                model.model.language_model,
                lambda inputs: "generation" if inputs["inputs_embeds"].shape[1] == 1 else "prefill",
            ),
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _now(self) -> float:
        # Nothing may be waited for while a graph is recorded.
        if self.session.device == "cpu" or not torch.cuda.is_current_stream_capturing():
            self.session.wait()
        return time.perf_counter()

    def _watch(self, module: torch.nn.Module, stage: Callable[[dict[str, Any]], str]) -> list[Any]:
        began: list[float] = []

        def before(*_: Any) -> None:
            began.append(self._now())

        def after(_: Any, __: Any, inputs: dict[str, Any], ___: Any) -> None:
            self.seconds[stage(inputs)] += self._now() - began.pop()

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]


def with_tokens(judge: Any, tokens: int) -> None:
    """Let ``judge`` answer in at most so many tokens."""
    judge.prompts = replace(judge.prompts, compare=replace(judge.prompt, max_new_tokens=tokens))


def copied(pairs: Sequence[VideoPair], folder: Path) -> list[VideoPair]:
    """The same pairs, their files in ``folder``: videos that were never seen."""
    folder.mkdir()
    paths = {video.path for pair in pairs for video in (pair.first, pair.second)}
    new = {path: str(shutil.copy(path, folder)) for path in paths}
    return [
        replace(
            pair,
            first=replace(pair.first, path=new[pair.first.path]),
            second=replace(pair.second, path=new[pair.second.path]),
        )
        for pair in pairs
    ]


def judging(session: Session) -> None:
    """All pairs in both orders, each way, with where the time goes."""
    judge, size = judge_of(session), session.size
    with_tokens(judge, size.tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        pairs = write_clips(folder / "clips", 1, size.clips, size.side)
        began = time.perf_counter()
        showings = shown(judge, pairs)
        decoding = time.perf_counter() - began
        session.record("decoding and tokenising", decoding / len(pairs), "pair")
        work = JudgeWork(judge.model, showings, session.ceilings)
        session.say(f"judging: {len(pairs)} pairs, {len(showings[0].ids)} tokens each, {size.tokens} new")
        found = []
        for batch in size.showings[:1]:
            found.append(
                session.attempt(f"ours, {batch} at once", 35.0, _ours, session, pairs, batch, work, decoding, folder)
            )
        session.attempt("one pair a call", 10.0, _one_by_one, session, pairs[:1], work)
        plain = session.attempt(
            f"plain batches of {size.showings[0]}", 40.0, _batched, session, pairs, size.showings[0], work
        )
        if found[0] is not None and plain is not None:
            session.attempt("compared", 5.0, _compare, session, pairs, found[0], plain)
        for batch in size.showings[1:]:
            session.attempt(f"ours, {batch} at once", 45.0, _ours, session, pairs, batch, work, decoding, folder)


def shown(judge: Any, pairs: Sequence[VideoPair]) -> list[Showing]:
    """Both orders of each pair, tokenised, nothing of it remembered by the judge."""
    encoder = ShowingEncoder.for_view(judge.processor, judge.prompt.view)
    orders = [order for pair in pairs for order in ((pair, pair.first, pair.second), (pair, pair.second, pair.first))]
    return [encoder.showing(judge.prompt.messages(p.prompt.text, one.path, other.path)) for p, one, other in orders]


def _asked(session: Session, pairs: Sequence[VideoPair]) -> tuple[float, list[Any]]:
    session.wait()
    began = time.perf_counter()
    answers = list(judge_of(session).compare(pairs))
    session.wait()
    return time.perf_counter() - began, answers


def _ours(
    session: Session, pairs: list[VideoPair], batch: int, work: JudgeWork, decoding: float, folder: Path
) -> Texts:
    judge, tokens, what = judge_of(session), session.size.tokens, f"ours, {batch} at once"
    judge.batch_size = batch
    works = {"vision": work.vision(shared=True), "prefill": work.reading(batch, shared=True)}
    works["generation"] = work.generation(batch, tokens)
    said = {stage: session.predict(f"{what}, {stage}", each) for stage, each in works.items()}
    first, _ = _asked(session, copied(pairs, folder / f"first_{batch}"))
    stages = Stages(session)
    with_tokens(judge, 1)
    with stages(judge.model):
        read, _ = _asked(session, copied(pairs, folder / f"one_token_{batch}"))
    with_tokens(judge, tokens)
    whole, answers = _asked(session, copied(pairs, folder / f"all_{batch}"))
    # A step may be a graph, and reading may go past the model's own forward: then they show in the difference alone.
    spent = {"vision": stages.seconds["vision"], "generation": max(whole - read, 0.0)}
    spent["prefill"] = stages.seconds.get("prefill") or max(read - spent["vision"] - decoding, 0.0)
    _tell(session, what, len(pairs), whole, spent, said, first=first)
    return [(answer.forward.text, answer.backward.text) for answer in answers]


def _tell(
    session: Session, what: str, pairs: int, whole: float, spent: dict[str, float], said: dict[str, Any], **more: Any
) -> None:
    """Rows of a way: the whole, and each stage."""
    floors = [floor for floor, _ in said.values() if floor is not None]
    spent = {**spent, "other": whole - sum(spent.values())}
    session.record(
        what,
        whole / pairs,
        "pair",
        (sum(floors) / pairs, "sum of stages"),
        pairs_a_second=pairs / whole,
        **spent,
        **more,
    )
    for stage, (floor, bound) in said.items():
        session.record(f"{what}, {stage}", spent.get(stage, 0.0) / pairs, "pair", (floor and floor / pairs, bound))


@torch.no_grad()
def _generate(judge: Any, showings: Sequence[Showing]) -> list[str]:
    """The model's own ``generate`` on a batch, pixels and all."""
    inputs = {
        name: value.to(judge.model.device) for name, value in judge.encoder.collate(showings, pixels=True).items()
    }
    output = judge.model.generate(**inputs, do_sample=False, max_new_tokens=judge.prompt.max_new_tokens)
    return judge.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _plain(session: Session, pairs: Sequence[VideoPair], batch: int, what: str, works: dict[str, Work]) -> Texts:
    judge, stages = judge_of(session), Stages(session)
    said = {stage: session.predict(f"{what}, {stage}", each) for stage, each in works.items()}
    with stages(judge.model):
        session.wait()
        began = time.perf_counter()
        showings = shown(judge, pairs)
        texts = []
        for start in range(0, len(showings), batch):
            texts += _generate(judge, showings[start : start + batch])
        session.wait()
        whole = time.perf_counter() - began
    _tell(session, what, len(pairs), whole, dict(stages.seconds), said)
    return list(zip(texts[::2], texts[1::2], strict=True))


def _batched(session: Session, pairs: Sequence[VideoPair], batch: int, work: JudgeWork) -> Texts:
    """One batch of plain generation."""
    pairs, rows = pairs[: batch // 2], min(batch // 2, len(pairs)) * 2
    works = {
        "vision": work.vision(shared=False).times(rows / work.rows),
        "prefill": work.reading(batch, shared=False).times(rows / work.rows),
        "generation": work.generation(batch, session.size.tokens, rows),
    }
    return _plain(session, pairs, batch, f"plain batches of {batch}", works)


def _one_by_one(session: Session, pairs: Sequence[VideoPair], work: JudgeWork) -> Texts:
    rows = 2 * len(pairs)
    works = {
        "vision": work.vision(shared=False).times(rows / work.rows),
        "prefill": work.reading(1, shared=False).times(rows / work.rows),
        "generation": work.generation(1, session.size.tokens, rows),
    }
    return _plain(session, pairs, 1, "one pair a call", works)


def _compare(session: Session, pairs: Sequence[VideoPair], ours: Texts, plain: Texts) -> None:
    """How many answers differ between plain batches and ours, and how near a tie they part, of the first few."""
    both = [
        (pair, swapped, one, other)
        for pair, mine, theirs in zip(pairs, ours, plain, strict=False)
        for swapped, (one, other) in enumerate(zip(mine, theirs, strict=True))
    ]
    differ = [each for each in both if each[2] != each[3]]
    judge = judge_of(session)
    gaps = [gap_at_first_difference(judge, p, bool(swapped), one, other) for p, swapped, one, other in differ[:4]]
    session.say(f"judging: {len(differ)} of {len(both)} texts differ; logits apart where the first part: {gaps}")
    session.results.about["judging, texts that differ"] = {"of": len(both), "differ": len(differ), "gaps": gaps}
