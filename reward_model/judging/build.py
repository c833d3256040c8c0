"""Any judge from what a config says of it: a model that runs here, under vLLM or behind a server, or a class."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from reward_model.judging.base import PairwiseJudge, VideoJudge
from reward_model.judging.config import (
    TINY,
    Backend,
    BatchSize,
    Decoding,
    JudgeOptions,
    JudgingConfig,
    ServerSettings,
    check_backend,
)
from reward_model.presets import preset_named
from reward_model.prompts import JudgePrompt
from reward_model.wordings import Shown
from videoduet.config import Precision, resolve
from videoduet.errors import InputError
from videoduet.processes import device as this_device
from videoduet.progress import console
from videoduet.video import use_reader

if TYPE_CHECKING:
    from reward_model.judging.assessor import AssessorJudge


@overload
def build_judge(path: str | Path, **options: Any) -> VideoJudge: ...
@overload
def build_judge(*, factory: str, arguments: Mapping[str, Any] | None = None) -> PairwiseJudge: ...
def build_judge(
    path: str | Path | None = None,
    *,
    preset: str | None = None,
    subfolder: str | None = None,
    adapter: str | Path | None = None,
    prompt: JudgePrompt | None = None,
    shown: Shown | None = None,
    backend: Backend = "transformers",
    server: ServerSettings | None = None,
    decoding: Decoding | None = None,
    dtype: Precision = "float32",
    batch_size: BatchSize = 64,
    device: str | None = None,
    factory: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> VideoJudge | PairwiseJudge:
    """The judge at ``path``, or what the class at the import path ``factory`` makes of ``arguments``: anything with
    ``compare``, such as human votes or a metric.

    ``path`` is a transformers or PEFT directory, also one that the package ships, or a hub id. ``preset`` says what the
    judge is asked (see :mod:`reward_model.presets`), ``subfolder`` where in ``path`` it lies (None: where the preset
    says), prompts kept beside its weights go before that, and ``prompt``,
    the wording of a comparison, before both; ``shown`` says what is shown in place of what they say. ``backend``
    'server' needs ``server``, which names the model; 'vllm' takes no ``adapter``. ``batch_size`` (showings at once, or
    'auto') and ``device`` (None: this process's) are for 'transformers'.

    Raises InputError where the judge cannot be loaded or made, or options do not go together.
    """
    if factory is not None:
        return _made(factory, arguments or {})
    check_backend(preset, backend, server)
    if server is not None:
        from reward_model.judging.server import ServerJudge

        return ServerJudge(server, preset=preset, decoding=decoding, prompt=prompt, shown=shown)
    if path is None:
        raise InputError("No judge is named; give a model's path, a server or a factory.", exit_code=2)
    path = _place(str(path), preset, subfolder)
    from reward_model.judging.loading import rates_in_numbers

    options: dict[str, Any] = {"preset": preset, "prompt": prompt, "shown": shown, "dtype": dtype}
    here: dict[str, Any] = {}
    if backend == "transformers":
        here = {"adapter": adapter, "batch_size": batch_size, "device": device or this_device()}
    if rates_in_numbers(path):
        return _in_numbers(path, backend, **options, **here)
    return _in_words(path, backend, decoding, options, here)


def _in_words(
    path: str, backend: Backend, decoding: Decoding | None, options: Mapping[str, Any], here: Mapping[str, Any]
) -> VideoJudge:
    """The judge at ``path`` that answers in words; ``here`` are options of one that runs under transformers."""
    preset = options["preset"]
    if preset_named(preset).numbers:
        raise InputError(
            f"Judge {path} answers in words, and preset {preset} is for numbers; give what pipelines.convert_judge "
            "aigv_assessor or a training wrote."
        )
    if backend == "vllm":
        from reward_model.judging.vllm_offline import VllmJudge

        return VllmJudge(path, decoding=decoding, **options)
    from reward_model.judging.local import Judge

    return Judge.from_pretrained(path, decoding=decoding, **options, **here)


def scorer_at(path: str, **options: Any) -> "AssessorJudge":
    """The judge at ``path`` that scores in numbers, with :func:`build_judge`'s options. Raises InputError where it does
    not.
    """
    from reward_model.judging.assessor import AssessorJudge

    judge = build_judge(path, **options)
    if not isinstance(judge, AssessorJudge):
        raise InputError(f"Judge {path} answers in words, and a first pass goes by numbers; give an AIGV-Assessor.")
    return judge


def first_pass(config: JudgingConfig) -> "Callable[[], AssessorJudge] | None":
    """What loads the judge that goes first, once, as the options of the judge's command say; None where none does."""
    path = config.first_pass
    if path is None:
        return None
    return cache(lambda: scorer_at(path, dtype=config.dtype, batch_size=config.batch_size))


def load_judge(config: JudgeOptions) -> VideoJudge:
    """The judge that the options of the judge's command name. Raises InputError where it cannot be loaded."""
    if config.judge == TINY and config.backend == "transformers":
        console.print(
            "The tiny judge knows nothing but shapes world; name one for real videos with --judge.", markup=False
        )
    use_reader(config.reader)
    return build_judge(
        config.judge, preset=config.preset, adapter=config.adapter, dtype=config.dtype, batch_size=config.batch_size,
        decoding=Decoding(config.samples, config.temperature), backend=config.backend, server=config.settings,
        shown=config.shown,
    )  # fmt: skip


def judge_source(path: str, preset: str | None, subfolder: str | None = None) -> tuple[str, JudgePrompt]:
    """The directory or hub id of a judge's own files, in ``subfolder`` (None: the one that ``preset`` names), and what
    it is asked when it compares: what training goes on from, and what is kept beside its weights. Raises InputError
    where it is not made to compare.
    """
    from reward_model.judging.loading import own_prompts

    directory = _place(path, preset, subfolder)
    return directory, own_prompts(directory, preset_named(preset).prompts).of("compare")


def _place(path: str, preset: str | None, subfolder: str | None) -> str:
    """The directory or hub id of a judge's own files."""
    if (inner := subfolder or preset_named(preset).subfolder) is None:
        return resolve(path)
    from reward_model.judging.loading import local_directory

    return local_directory(path, inner)


def _in_numbers(path: str, backend: Backend, *, prompt: JudgePrompt | None, **options: Any) -> VideoJudge:
    """The judge at ``path`` that rates in numbers, always the same ones. Raises InputError for what is for words."""
    from reward_model.judging.assessor import AssessorJudge

    if backend != "transformers" or prompt is not None:
        what = "a wording of a comparison" if backend == "transformers" else f"the backend {backend}"
        raise InputError(f"Judge {path} answers in numbers, and {what} is for words; leave it out.")
    return AssessorJudge.from_pretrained(path, **options)


def _made(factory: str, arguments: Mapping[str, Any]) -> PairwiseJudge:
    module, _, name = factory.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"judge.factory {factory} cannot be used ({error}); give module.Class, and judge.arguments that it takes."
        ) from error
