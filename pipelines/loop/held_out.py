"""The held-out videos of a run: drawn by every generator version from the same noise, and compared with the base's.

They lie in ``score/``, beside their prompts, whoever comes first to draw them: the measurement of a round, or the
score, which needs all versions. What is there is not drawn or judged again.
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from generators.base import Generator
from generators.config import Speed
from generators.drawing import draw_items
from generators.sampling import SamplingItem, read_samples, shard_files
from reward_model.judging.base import PairwiseJudge
from videoduet.intervals import wilson_interval
from videoduet.machines import ALONE, Machine
from videoduet.processes import processes
from videoduet.progress import track
from videoduet.records import Comparison, Prompt, Sample, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_records
from videoduet.workspace import Workspace


def version_name(number: int) -> str:
    """What G_r is called in records and file names; 0 is the base."""
    return f"G_{number}"


def version_number(name: str) -> int:
    """The number of the version called so."""
    return int(name.removeprefix("G_"))


@dataclass(frozen=True)
class Versions:
    """How generator versions are drawn.

    Attributes:
        generator: Gives G_r.
        directory: The run's.
        seed: The run's.
        batch_size: Videos drawn at once.
        speed: How.
        machine: Which part of the videos this machine draws; the first waits for the others'.
    """

    generator: Callable[[int], Generator]
    directory: Workspace
    seed: int
    batch_size: int
    speed: Speed
    machine: Machine = ALONE

    def draw(self, number: int, items: Sequence[SamplingItem], output: Path, what: str) -> list[str]:
        """Draw ``items`` with G_r into ``output``; returns what of the prompts was not drawn, in sentences."""
        version, what = version_name(number), f"{what} {version_name(number)}"
        notes = draw_items(
            self.generator(number), items, output, self.directory.root, version=version, round_number=number,
            batch_size=self.batch_size, speed=self.speed, what=what, machine=self.machine,
        )  # fmt: skip
        # The next version, or a judge, takes its place: a generator that is dropped is not freed at once.
        gc.collect()
        if self.machine.finishes:
            self.machine.wait_for(shard_files(output, len(items), version=version, batch_size=self.batch_size), what)
        return notes


@dataclass(frozen=True)
class HeldOut:
    """The held-out videos.

    Attributes:
        versions: How they are drawn.
        prompts: The held-out prompts.
        videos_per_prompt: Videos of each.
        samples: Gives the readable ones of a version, by its name.
        output: Where they lie.
    """

    versions: Versions
    prompts: Sequence[Prompt]
    videos_per_prompt: int
    samples: Callable[[str], list[Sample]]
    output: Path

    @property
    def items(self) -> list[SamplingItem]:
        """What every version draws."""
        return [
            SamplingItem(prompt, index, seed_for(self.versions.seed, "score", prompt.id, index))
            for prompt in self.prompts
            for index in range(self.videos_per_prompt)
        ]

    def draw(self, numbers: Iterable[int], what: str) -> list[str]:
        """Draw what is missing of the videos of some versions; returns notes as :meth:`Versions.draw` does."""
        notes = [note for number in numbers for note in self.versions.draw(number, self.items, self.output, what)]
        return list(dict.fromkeys(notes))

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """Those of the versions of whose videos some are not there; to be called by all processes together."""
        root, wanted = self.versions.directory.root, len(self.items)
        found = [n for n in numbers if len(read_samples(self.output, version_name(n), root=root)) < wanted]
        # Nobody draws before all have looked: all must come to the same list of work.
        processes().wait_for_everyone()
        return found

    def beside(self, number: int, other: int = 0) -> list[tuple[Sample, Sample]]:
        """The readable videos of a version, each with that of another one (the base) from the same noise."""
        before = {(sample.prompt_id, sample.index): sample for sample in self.samples(version_name(other))}
        sides = [(new, before.get((new.prompt_id, new.index))) for new in self.samples(version_name(number))]
        return [(new, old) for new, old in sides if old is not None]

    def win_rate(self, judge: Callable[[], PairwiseJudge], name: str, number: int, what: str) -> dict[str, float | int]:
        """How often the judge called ``name`` prefers a version's videos to the base's: see :func:`win_rate`."""
        return win_rate(self.compared(judge, name, number, what), len(self.items))

    def compared(
        self, judge: Callable[[], PairwiseJudge], name: str, number: int, what: str, other: int = 0,
        prompts: Sequence[Prompt] | None = None,
    ) -> list[Comparison]:  # fmt: skip
        """What a judge says of a version's videos (first) against another's (the base's) from the same noise, for all
        prompts or some; kept, and not asked again.
        """
        version = version_name(number) + (f"_over_{version_name(other)}" if other else "")
        path = self.output / f"comparisons_{name}_{version}.parquet"
        if not path.exists():
            texts = {prompt.id: prompt for prompt in (self.prompts if prompts is None else prompts)}
            pairs = [
                VideoPair(prompt=texts[new.prompt_id], first=new.video, second=old.video)
                for new, old in self.beside(number, other)
                if new.id != old.id and new.prompt_id in texts
            ]
            results = list(track(judge().compare(pairs), f"{what}: {name} on {version}", total=len(pairs)))
            write_records(path, results, Comparison)
        return read_records(Comparison, path)


def win_rate(comparisons: Sequence[Comparison], total: int) -> dict[str, float | int]:
    """Win rate of the first videos among ``total`` cases, with its 95 % interval; an abstention counts ½."""
    won = sum(c.preferred_id == c.first_id for c in comparisons)
    lost = sum(c.preferred_id == c.second_id for c in comparisons)
    rate = (won + 0.5 * (total - won - lost)) / total
    low, high = wilson_interval(rate, total)
    return {"rate": rate, "low": low, "high": high, "decided": won + lost, "total": total}
