"""Public data sets of video quality, read as they are published: ``read_dataset("lsvq", "data/LSVQ", "train")``.

docs/datasets.md tells where each comes from, its licence, and the folder expected.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from reward_model.datasets import aigvqa, filmed, generated, preferences, questions
from reward_model.datasets.items import Item, PreferenceItem, QuestionItem, Reading, ScoredClip, Split
from reward_model.datasets.splits import prompt_of
from videoduet.errors import InputError
from videoduet.loading import loading
from videoduet.records import stable_id
from videoduet.tables import is_text

__all__ = [
    "DATASETS",
    "Item",
    "PreferenceItem",
    "QuestionItem",
    "Reading",
    "ScoredClip",
    "Split",
    "check_benchmark",
    "read_dataset",
]

Task = Literal["score", "dimensions", "preference", "question"]


@dataclass(frozen=True)
class Published:
    """A data set: what it asks, who reads it, and the splits its authors made (none: one is made here)."""

    task: Task
    read: Callable[[Path, Split], Reading]
    splits: tuple[Split, ...] = ()


DATASETS: dict[str, Published] = {
    "koniq_10k": Published("score", filmed.read_koniq, ("train", "validation", "test", "all")),
    "lsvq": Published("score", filmed.read_lsvq, ("train", "test", "test_1080p")),
    **{name: Published("score", partial(filmed.read_filmed, spec)) for name, spec in filmed.FILMED.items()},
    "waterloo_ivc_4k": Published("score", filmed.read_waterloo),
    "finevd_scores": Published("score", filmed.read_finevd_scores, ("train", "test")),
    "lgvq": Published("dimensions", generated.read_lgvq),
    "video_feedback": Published("dimensions", generated.read_video_feedback, ("train", "test")),
    "t2vqa_db": Published("score", generated.read_t2vqa_db),
    "t2vqa_sora": Published("score", generated.read_t2vqa_sora, ("test",)),
    "fetv": Published("dimensions", generated.read_fetv),
    "gaia": Published("dimensions", generated.read_gaia),
    "aigvqa_db": Published("dimensions", aigvqa.read_aigvqa_db),
    "aigvqa_pairs": Published("preference", aigvqa.read_aigvqa_pairs),
    "own_ratings": Published("dimensions", generated.read_own_ratings),
    "vision_reward_pairs": Published("preference", preferences.read_vision_reward_pairs),
    "vision_reward_questions": Published("question", questions.read_vision_reward_questions),
    "monetbench": Published("preference", preferences.read_monetbench, ("test",)),
    "genai_bench": Published("preference", preferences.read_genai_bench, ("test",)),
    "videogen_reward_bench": Published("preference", preferences.read_reward_bench, ("test",)),
    "finevd": Published("question", questions.read_finevd, ("test",)),
    "q_bench_video": Published("question", questions.read_q_bench_video, ("test",)),
}
"""Every data set that can be read, by the name that recipes and commands use."""


def check_benchmark(name: str) -> None:
    """Raises InputError where there is no data set of that name to measure on."""
    if name not in DATASETS:
        raise InputError(f"There is no benchmark {name!r}; take one of {', '.join(DATASETS)}.", exit_code=2)


def read_dataset(name: str, folder: str | Path, split: Split = "all") -> Reading:
    """The items of a split whose videos are there, and what is missing.

    Where the authors made no split, and the folder's files make none, 'train' and 'test' are made here: a fifth of the
    prompts (of the videos, where there are no prompts) is 'test', by a hash, so that it never changes and no prompt is
    in both.

    Raises InputError for an unknown data set or split, a folder that is not there, a file or column that is missing,
    and a data set none of whose videos is there.
    """
    if name not in DATASETS:
        raise InputError(f"There is no data set {name!r}; take one of {', '.join(DATASETS)}.", exit_code=2)
    folder, published = Path(folder), DATASETS[name]
    if not folder.is_dir():
        raise InputError(f"{name}: the folder {folder} does not exist; docs/datasets.md tells what to put there.")
    if not is_text(str(folder.absolute())):
        raise InputError(f"{name}: the path {str(folder)!a} is no UTF-8, so no result can name its videos; rename it.")
    if split not in (published.splits or ("train", "test", "all")):
        splits = ", ".join(published.splits or ("train", "test", "all"))
        raise InputError(f"{name} has no split {split!r}; take one of {splits}.", exit_code=2)
    with loading(f"{name}: the files in {folder} cannot be read", "download them again, or repair them."):
        reading = published.read(folder, split)
    if not reading.items:
        raise InputError(f"{reading.summary()} Put the videos below {folder} as docs/datasets.md describes.")
    if published.splits or split == "all" or reading.published_split:
        return reading
    kept = [item for item in reading.items if (int(stable_id(prompt_of(item)), 16) % 5 == 0) == (split == "test")]
    return replace(reading, items=kept)
