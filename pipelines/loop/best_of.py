"""Best of N: of the videos drawn for each prompt, the one that a judge prefers."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward_model.judging.config import TINY, Backend, JudgeOptions
from videoduet.config import Precision, at_least
from videoduet.errors import InputError
from videoduet.records import Comparison, Prompt, Sample, VideoPair

if TYPE_CHECKING:
    from reward_model.judging.base import PairwiseJudge
    from videoduet.workspace import Workspace

KEPT = "comparisons_*.parquet"
"""What the judge said, in ``best/``, a file for so many prompts:"""
PROMPTS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class BestOfConfig:
    """Of several videos of each prompt the best is picked.

    Attributes:
        best_of: Draw that many videos of each prompt, and copy the one that the judge prefers to best/ (1: all are
            kept, none is picked).
        judge: Who picks, as pipelines.judge takes it. The default is the tiny judge that ships, which knows nothing but
            shapes world.
        preset: What the judge is made for, as pipelines.judge takes it.
        factory: The import path of a class with compare (module.Class), in place of a judge.
        judge_dtype: Precision of the judge's weights.
        backend: What runs the judge: transformers, vllm, or server.
        server: URL of an OpenAI-compatible API for --backend server, as pipelines.judge takes it.
    """

    best_of: int = 1
    judge: str = TINY
    preset: str | None = None
    factory: str | None = None
    judge_dtype: Precision = "float32"
    backend: Backend = "transformers"
    server: str | None = None

    def __post_init__(self) -> None:
        at_least(1, best_of=self.best_of)
        if self.best_of == 1 and (self.judge, self.preset, self.factory, self.server) != (TINY, None, None, None):
            raise InputError("A judge is named, but nothing to pick from; give --best_of 2 or more.", exit_code=2)
        if self.factory is None:
            self.judging()

    def judging(self) -> JudgeOptions:
        """How the judge is loaded."""
        return JudgeOptions(
            judge=self.judge, preset=self.preset, dtype=self.judge_dtype, backend=self.backend, server=self.server
        )


def pick_best(config: BestOfConfig, output: Path) -> tuple[Path, int, list[str]]:
    """Copy the best video of each prompt in ``output``, where they were drawn, to ``best/``, listed in best/videos.csv.

    Returns that list's path, how many were picked, and why others were not, in sentences. What was picked before by the
    same judge stays. Raises InputError where another one picked, or nothing could be judged.
    """
    # Only for those who pick.
    from generators.sampling import read_samples
    from videoduet.store import read_records
    from videoduet.workspace import Workspace

    workspace, listed = Workspace(output / "best"), output / "best" / "videos.csv"
    workspace.check(config, "picked")
    prompts = {prompt.id: prompt for prompt in read_records(Prompt, output / "prompts.parquet")}
    samples = read_samples(output, root=output)
    if not workspace.is_done():
        reasons = _judged(config, prompts, samples, workspace)
        comparisons = read_records(Comparison, *sorted(workspace.root.glob(KEPT)))
        if not comparisons:
            raise InputError(f"Nothing could be judged: {(reasons or ['the judge said nothing'])[0]}")
        _keep(comparisons, prompts, samples, listed)
        workspace.finish(None, comparisons=len(comparisons), notes=reasons)
    kept = read_records(Comparison, *sorted(workspace.root.glob(KEPT)))
    picked = {comparison.prompt_id for comparison in kept}
    left_out = [f"No video was picked for {prompt.text!r}." for key, prompt in prompts.items() if key not in picked]
    return listed, len(picked), left_out


def _judged(
    config: BestOfConfig, prompts: Mapping[str, Prompt], samples: Sequence[Sample], workspace: "Workspace"
) -> list[str]:
    """Why some videos could not be judged. What the judge says is kept some prompts at a time, and not asked again."""
    from alignment.preferences.tournament import adaptive_comparisons
    from videoduet.progress import track
    from videoduet.store import write_records

    judge, videos = None, {key: [one.video for one in samples if one.prompt_id == key] for key in prompts}
    keys = list(prompts)
    for start in track(range(0, len(keys), PROMPTS_AT_ONCE), "picking the best"):
        file = workspace.root / KEPT.replace("*", f"{start:06d}")
        if file.exists():
            continue
        judge = judge or _Listing(_judge(config))
        part = {key: videos[key] for key in keys[start : start + PROMPTS_AT_ONCE]}
        # Where the judge says nothing, a later one may.
        if comparisons := list(adaptive_comparisons(judge, prompts, part)):
            workspace.adopt(config, "picked")
            write_records(file, comparisons, Comparison)
    return judge.reasons if judge else []


def _judge(config: BestOfConfig) -> "PairwiseJudge":
    from reward_model.judging.build import build_judge, load_judge

    return build_judge(factory=config.factory) if config.factory else load_judge(config.judging())


class _Listing:
    """A judge, with what it could not judge in ``reasons``."""

    def __init__(self, judge: "PairwiseJudge"):
        self.judge = judge
        self.reasons: list[str] = []

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        from reward_model.judging.base import Failure, VideoJudge

        missed: list[Failure] = []
        # Of what it may be given, a judge that answers in words leaves the types open.
        judge: Any = self.judge
        listing = {"failures": missed} if isinstance(self.judge, VideoJudge) else {}
        yield from judge.compare(pairs, **listing)
        self.reasons += [failure.reason for failure in missed]


def _keep(
    comparisons: Sequence[Comparison], prompts: Mapping[str, Prompt], samples: Sequence[Sample], listed: Path
) -> None:
    """Copy the best of each prompt beside ``listed``, and list them, with the share of their games that they won."""
    import pyarrow as pa
    import pyarrow.csv

    from alignment.preferences.ranking import order_by_standing, rank_prompts
    from videoduet.store import atomic_path

    drawn, rows = {sample.id: sample for sample in samples}, list[dict[str, str | int | float]]()
    for key, ranking in rank_prompts(comparisons).items():
        best = order_by_standing(ranking)[0]
        sample = drawn[ranking.video_ids[best]]
        path = listed.parent / Path(sample.video_path).name
        with atomic_path(path) as temporary:
            shutil.copyfile(sample.video_path, temporary)
        games = max(1, ranking.comparisons[best])
        found = {"prompt": prompts[key].text, "index": sample.index, "won": ranking.wins[best] / games}
        rows.append({"video": path.name, **found})
    with atomic_path(listed) as temporary:
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), temporary)
