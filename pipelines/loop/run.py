"""One run: its directory, its config, and the models and videos of each round."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.loop.choice import Choice, chosen
from pipelines.loop.config import RunConfig, parse
from pipelines.loop.directory import RunDirectory
from pipelines.loop.first_checks import PATIENCE, check_alike, check_run
from pipelines.loop.phases import Turn, needed, turns
from pipelines.loop.prompts import PromptSplit, read_run_prompts
from pipelines.loop.summaries import (
    AlignSummary,
    MeasureSummary,
    RankSummary,
    RefreshSummary,
    ScoreSummary,
    read_summary,
)
from pipelines.loop.videos import RoundVideos
from reward_model.judging.config import Decoding
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.machines import ALONE, Machine
from videoduet.processes import device
from videoduet.quantized import LoadIn
from videoduet.records import PreferencePair, Prompt, Sample
from videoduet.store import read_records, write_json, write_records

if TYPE_CHECKING:
    from generators.base import Generator
    from reward_model.judging.base import PairwiseJudge

LIBRARIES = ("torch", "diffusers", "transformers", "trl", "peft", "accelerate", "av")


@dataclass
class Run:
    """A run directory with its config: where phases are handed what they need from."""

    directory: RunDirectory
    config: RunConfig
    machine: Machine = ALONE

    @classmethod
    def start(cls, config: RunConfig, machine: Machine = ALONE) -> "Run":
        """Make or enter the run directory; refuses a config that contradicts it."""
        run = cls(RunDirectory(config.run_dir), config, machine)
        check_run(config, run.directory)
        check_alike(config, run.directory, machine, PATIENCE)
        prompts = read_run_prompts(config.prompts)
        # What the first machine says of the run holds for all.
        run.directory.adopt_config(config, again=machine.first)
        for name, group in (("prompts.parquet", prompts.train), ("score/prompts.parquet", prompts.held_out)):
            if not (file := run.directory.root / name).exists():
                write_records(file, group, Prompt)
        if not (file := run.directory.root / "environment.json").exists():
            versions = {name: version(name) for name in LIBRARIES}
            write_json(file, {"python": platform.python_version(), "platform": platform.platform(), **versions})
        return run

    @classmethod
    def open(cls, run_dir: str | Path, machine: Machine = ALONE) -> "Run":
        """A run that was started before. Raises InputError where ``run_dir`` is none."""
        path = Path(run_dir) / "config.yaml"
        if not path.exists():
            raise InputError(f"{run_dir} is no run directory: it has no config.yaml.", exit_code=2)
        config, _ = parse(["--config", str(path), "--run_dir", str(run_dir)])
        return cls(RunDirectory(run_dir), config, machine)

    @property
    def rounds(self) -> int:
        """Its rounds: those that the config asks for, or fewer where one is surely worse than what was before it, and
        the config says that none shall follow (score.stop).
        """
        if self.config.score.stop == "never":
            return self.config.rounds
        return next((number for number, one in self._measured(self.config.rounds) if one.worse), self.config.rounds)

    def check_turn(self, turn: Turn) -> None:
        """Raises InputError unless the run has this phase in this round, it is this machine's, and what it needs is
        done.
        """
        if turn not in turns(self.rounds):
            raise InputError(
                f"The run has no {turn.phase.name} in round {turn.round_number}; it has {self.rounds} rounds.",
                exit_code=2,
            )
        if not (turn.phase.shared or self.machine.first):
            raise InputError(
                f"{turn.phase.name} is not shared out: machine 0 of {self.machine.count} does it.", exit_code=2
            )
        for path in needed(turn, self.rounds):
            if path.name == "audit" and not self.audited:
                continue
            if not self.directory.is_done(self.directory.root / path):
                raise InputError(f"{turn.path} needs {path}, which is not done; run that phase first.")

    @property
    def audited(self) -> bool:
        """Whether its judge is audited: where the config says so, but not in a run from before there were audits."""
        return self.config.audit.clips > 0 and "audit" in (self.directory.kept() or {"audit": None})

    def leaves_out(self, turn: Turn) -> bool:
        """Whether a phase is none of this run's: an audit where nothing is audited, a round after one that was worse,
        or a measurement that is missing whose figures the score made, in a run from before there were any.
        """
        if turn.phase.first_round is not None and turn.round_number >= self.rounds:
            return True
        if turn.phase.name == "audit":
            return not self.audited
        score = self.folder("score")
        if turn.phase.name != "measure" or not self.directory.is_done(score):
            return False
        return not read_summary(ScoreSummary, score).measured

    def folder(self, phase: str, round_number: int | None = None) -> Path:
        """The folder of a phase; without a round it is the whole run's."""
        return self.directory.phase(phase, round_number)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The training prompts."""
        return read_records(Prompt, self.directory.root / "prompts.parquet")[: self.config.prompts.limit]

    @cached_property
    def held_out_prompts(self) -> list[Prompt]:
        """The prompts that are only scored."""
        return read_records(Prompt, self.directory.root / "score" / "prompts.parquet")

    @property
    def split(self) -> PromptSplit:
        """Which training prompts label, which refresh the judge, which measure it."""
        refresh = self.config.refresh
        return PromptSplit(self.prompts, refresh.cross_fit, refresh.held_out_prompts)

    @cached_property
    def _videos(self) -> RoundVideos:
        return RoundVideos(self.directory)

    def samples(self, phase: str, round_number: int | None = None, version: str = "*") -> list[Sample]:
        """The readable samples of a phase (of one generator version), in the order of prompt id and index."""
        return self._videos.samples(self.folder(phase, round_number), version)

    def drawn(self, phase: str, round_number: int | None = None) -> list[Sample]:
        """All samples of a phase, whatever has become of their video files: training needs their latents alone."""
        from generators.sampling import read_samples

        return read_samples(self.folder(phase, round_number), root=self.directory.root)

    def preferences(self, round_number: int) -> tuple[RankSummary, list[PreferencePair]]:
        """What a round's ranking came to."""
        folder = self.folder("rank", round_number)
        return read_summary(RankSummary, folder), read_records(PreferencePair, folder / "pairs.parquet")

    @property
    def base(self) -> str:
        """The generator's directory or hub id, as adapters name it."""
        return resolve(self.config.generator.path)

    def base_generator(self, load_in: LoadIn | None = None) -> "Generator":
        """G_0, plain, its denoiser in as many bits as ``load_in`` says."""
        from generators.loading import load_generator

        config = self.config.generator
        return load_generator(self.base, sampler=config.sampler, dtype=config.dtype, device=device(), load_in=load_in)

    def generator(self, round_number: int) -> "Generator":
        """G_r: the base with what was learned in the rounds before, in force."""
        from generators.loading import with_adapter

        return with_adapter(self.base_generator(), self.generator_adapter(round_number))

    def generator_adapter(self, round_number: int) -> Path | None:
        """The LoRA of G_r: that of the last alignment before it (None: there was none)."""
        return self._last(round_number, "align", AlignSummary, "trained")

    def judge_adapter(self, round_number: int) -> Path | None:
        """The LoRA of D_r: that of the last accepted refresh up to it (None: D_0)."""
        return self._last(round_number + 1, "refresh", RefreshSummary, "accepted")

    def _last(self, stop: int, phase: str, kind: type[AlignSummary] | type[RefreshSummary], status: str) -> Path | None:
        for earlier in reversed(range(stop)):
            path = self.folder(phase, earlier)
            if self.directory.is_done(path) and read_summary(kind, path).status == status:
                return path / "adapter"
        return None

    def judge(self, round_number: int) -> "PairwiseJudge":
        """D_r."""
        from reward_model.judging.build import build_judge

        config = self.config.judge
        if config.factory is not None:
            return build_judge(factory=config.factory, arguments=config.arguments)
        if config.model is not None:
            return self.own_judge(self.judge_adapter(round_number))
        assert config.path is not None  # the config asks for it where there is neither factory nor model
        return build_judge(
            config.path, preset=config.preset, subfolder=config.subfolder, backend=config.backend,
            server=config.settings, decoding=self._decoding, dtype=config.dtype,
        )  # fmt: skip

    def ranking_judge(self, round_number: int) -> "PairwiseJudge":
        """D_r, behind what goes first where the config names something."""
        config = self.config.judge
        if config.first_pass is None:
            return self.judge(round_number)
        from reward_model.judging.build import scorer_at
        from reward_model.judging.first_pass import FirstPassJudge

        scorer = scorer_at(config.first_pass, dtype=config.dtype, batch_size=config.batch_size)
        return FirstPassJudge(scorer, lambda: self.judge(round_number), config.first_pass_sure)

    def own_judge(self, adapter: Path | None) -> "PairwiseJudge":
        """The run's own model, which can be trained, with ``adapter`` on top."""
        config = self.config.judge
        return self.load_judge(config.model or "", adapter, config.preset, config.subfolder)

    def load_judge(
        self, path: str, adapter: Path | None = None, preset: str | None = None, subfolder: str | None = None
    ) -> "PairwiseJudge":
        """The judge whose model lies at ``path``, with ``adapter`` on top, asked as ``preset`` says."""
        from reward_model.judging.build import build_judge

        config = self.config.judge
        return build_judge(
            path, preset=preset, subfolder=subfolder, adapter=adapter, decoding=self._decoding, dtype=config.dtype,
            batch_size=config.batch_size,
        )  # fmt: skip

    @property
    def _decoding(self) -> Decoding:
        return Decoding(self.config.judge.samples, self.config.judge.temperature)

    def second_judge(self) -> "Callable[[], PairwiseJudge] | None":
        """Loads the second judge, which was trained apart and never gave a label; None where the config names none."""
        path = self.config.judge.second_path
        return None if path is None else lambda: self.load_judge(path)

    def measuring_judges(self) -> "Iterator[tuple[str, Callable[[], PairwiseJudge]]]":
        """What loads the judges that measure, by name: the last D, D_0 (where it could have become another), and the
        second one.
        """
        yield "judge", lambda: self.judge(self.rounds - 1)
        if self.config.judge.model is not None:
            yield "frozen_judge", lambda: self.own_judge(None)
        if (second := self.second_judge()) is not None:
            yield "second_judge", second

    def measured(self) -> dict[int, MeasureSummary]:
        """What was measured so far, by the number of the version."""
        return dict(self._measured(self.rounds))

    def _measured(self, rounds: int) -> Iterator[tuple[int, MeasureSummary]]:
        folders = {number + 1: self.folder("measure", number) for number in range(rounds)}
        for number, folder in folders.items():
            if self.directory.is_done(folder):
                yield number, read_summary(MeasureSummary, folder)

    def chosen(self) -> Choice | None:
        """The version that it keeps; None where that is the last without a choice."""
        return chosen(self.measured(), self.rounds, self.config.score.keep)
