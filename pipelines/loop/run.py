"""One run: its directory, its config, and the models of each round."""

import importlib
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import diffusers
import torch
import transformers
import yaml
from accelerate import PartialState

from generators.base import Generator
from generators.loading import load_generator, with_adapter
from pipelines.loop.config import EARLIEST_PHASE, RunConfig, parse
from reward_model.judging.local import Judge, PairwiseJudge
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.prompt_sets import read_prompts
from videoduet.records import Comparison, Prompt, Video, VideoPair
from videoduet.store import read_json, read_records, write_json, write_records
from videoduet.video import read_video
from videoduet.workspace import RunDirectory

# A tiny model loads in a blink, a large one says so itself.
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
LIBRARIES = ("torch", "diffusers", "transformers", "trl", "peft", "accelerate", "av")


@dataclass
class Run:
    """A run directory with its config: what a phase needs to find its models and its data."""

    directory: RunDirectory
    config: RunConfig

    @classmethod
    def start(cls, config: RunConfig) -> "Run":
        """Make or enter the run directory; refuses a config that contradicts it."""
        run = cls(RunDirectory(config.run_dir), config)
        run._check()
        prompts = read_run_prompts(config)
        train, held_out = ({prompt.text for prompt in prompts[name]} for name in ("train", "held_out"))
        if both := train & held_out:
            raise InputError(
                f"{len(both)} held-out prompts are training prompts too, e.g. {min(both)!r}; take them out."
            )
        run.directory.adopt_config(config, EARLIEST_PHASE)
        for name, group in (("prompts.parquet", prompts["train"]), ("score/prompts.parquet", prompts["held_out"])):
            if not (file := run.directory.root / name).exists():
                write_records(file, group, Prompt)
        if not (file := run.directory.root / "environment.json").exists():
            versions = {name: version(name) for name in LIBRARIES}
            write_json(file, {"python": platform.python_version(), "platform": platform.platform(), **versions})
        return run

    def _check(self) -> None:
        """Find cheap mistakes before hours of work: models and data that are not there, a run that would shrink."""
        config = self.config
        paths = {
            "generator.path": config.generator.path,
            "judge.path": config.judge.path,
            "judge.second_path": config.judge.second_path,
            "refresh.original_data": config.refresh.original_data,
            "refresh.held_out_data": config.refresh.held_out_data,
        }
        for name, path in paths.items():
            if path is None or Path(resolve(path)).exists():
                continue
            if not name.endswith("path") or path.count("/") != 1 or path.startswith((".", "/")):
                raise InputError(f"{name} {path} does not exist; give one that does, or a model's hub id (owner/name).")
        file = self.directory.root / "config.yaml"
        kept = yaml.safe_load(file.read_text())["rounds"] if file.exists() else 0
        if config.rounds < kept:
            raise InputError(
                f"{self.directory.root} has {kept} rounds; give --rounds {kept} or more, or another --run_dir."
            )

    @classmethod
    def open(cls, run_dir: str | Path) -> "Run":
        """A run that was started before. Raises InputError where ``run_dir`` is none."""
        path = Path(run_dir) / "config.yaml"
        if not path.exists():
            raise InputError(f"{run_dir} is no run directory: it has no config.yaml.", exit_code=2)
        config, _ = parse(["--config", str(path), "--run_dir", str(run_dir)])
        return cls(RunDirectory(run_dir), config)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The training prompts."""
        return read_records(Prompt, self.directory.root / "prompts.parquet")[: self.config.prompts.limit]

    @cached_property
    def held_out_prompts(self) -> list[Prompt]:
        return read_records(Prompt, self.directory.root / "score" / "prompts.parquet")

    @cached_property
    def processes(self) -> PartialState:
        return processes()

    @property
    def device(self) -> str:
        return str(self.processes.device)

    def generator(self, round: int) -> Generator:
        """G_round: the base generator with what was learned in the rounds before."""
        config = self.config.generator
        generator = load_generator(resolve(config.path), sampler=config.sampler, dtype=config.dtype, device=self.device)
        return with_adapter(generator, self.generator_adapter(round))

    def generator_adapter(self, round: int) -> Path | None:
        """The LoRA of G_round: that of the last alignment before it (None: there was none)."""
        return self._last(round, "align", "trained")

    def judge_adapter(self, round: int) -> Path | None:
        """The LoRA of D_round: that of the last accepted refresh up to it (None: D_0)."""
        return self._last(round + 1, "refresh", "accepted")

    def _last(self, stop: int, phase: str, status: str) -> Path | None:
        for earlier in reversed(range(stop)):
            path = self.directory.phase(phase, earlier)
            if self.directory.is_done(path) and read_json(path / "summary.json")["status"] == status:
                return path / "adapter"
        return None

    def judge(self, round: int) -> PairwiseJudge:
        """D_round."""
        config = self.config.judge
        if config.factory is not None:
            return _make(config.factory, config.arguments)
        return self.load_judge(config.path, self.judge_adapter(round))

    def load_judge(self, path: str, adapter: Path | None = None) -> Judge:
        config = self.config.judge
        return Judge.from_pretrained(
            resolve(path), adapter=adapter, dtype=config.dtype, batch_size=config.batch_size, device=self.device
        )

    def readable(self, videos: Iterable[Video]) -> list[Video]:
        """The videos that can be read; the others are quarantined and left out."""
        good = []
        for video in videos:
            try:
                read_video(self.directory.root / video.path, 1)
                good.append(video)
            except InputError as error:
                self.directory.quarantine(video.path, str(error))
        return good

    def compare(self, judge: PairwiseJudge, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Ask ``judge`` about pairs of this run's videos, whose paths are relative to it."""
        absolute = self.directory.absolute
        yield from judge.compare(
            VideoPair(prompt=pair.prompt, first=absolute(pair.first), second=absolute(pair.second)) for pair in pairs
        )


def processes() -> PartialState:
    """This process among its fellows, who wait for each other as long as a phase may take."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def _make(factory: str, arguments: Mapping) -> PairwiseJudge:
    module, _, name = factory.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"judge.factory {factory} cannot be used ({error}); give module.Class, and judge.arguments that it takes."
        ) from error


def read_run_prompts(config: RunConfig) -> dict[str, list[Prompt]]:
    """The prompts that ``config`` names: ``train`` and ``held_out``."""
    prompts = config.prompts
    shared = {"column": prompts.column, "nsfw_below": prompts.nsfw_below}
    subset = {"limit": prompts.limit, "subset_seed": prompts.subset_seed}
    return {
        "train": read_prompts(resolve(prompts.train), **shared, **subset).prompts,
        "held_out": read_prompts(resolve(prompts.held_out), **shared).prompts,
    }
