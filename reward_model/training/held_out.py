"""The pairs by which a refresh's gate measures that the judge before did not label: of its own data, held out."""

from collections.abc import Sequence

from reward_model.datasets import DATASETS, PreferenceItem, Reading, read_dataset
from reward_model.training.config import DataConfig
from reward_model.training.mixture import usable
from reward_model.training.refresh import read_labelled_pairs
from videoduet.config import resolve
from videoduet.records import LabelledPair


def tested(data: Sequence[DataConfig]) -> list[DataConfig]:
    """Those of the data sets whose test split is held out: sets of pairs of which the train split is learned from."""
    return [each for each in data if each.split == "train" and DATASETS[each.name].task == "preference"]


def held_out_pairs(data: Sequence[DataConfig], seed: int, file: str | None = None) -> list[LabelledPair]:
    """The pairs in ``file``, and those of the test splits of ``data``, of each at most as many items as its limit says.

    Raises InputError as :func:`read_dataset` and :func:`read_labelled_pairs` do.
    """
    kept = [] if file is None else read_labelled_pairs(resolve(file))
    for each in tested(data):
        kept += labelled(usable(read_dataset(each.name, resolve(each.folder), "test")).limited(each.limit, seed))
    return kept


def labelled(reading: Reading) -> list[LabelledPair]:
    """The pairs of a data set that people decided, as labels."""
    return [
        LabelledPair(
            prompt=item.pair.prompt, first=item.pair.first, second=item.pair.second, preferred=label,
            source=reading.name,
        )
        for item in reading.items
        if isinstance(item, PreferenceItem) and (label := item.preferred["overall"]) != "tie"
    ]  # fmt: skip
