"""Which pairs can be trained on, and why the others cannot."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from alignment.training.schedule import pair_id
from alignment.training.tensor_rows import TensorRows
from videoduet.errors import InputError
from videoduet.records import PreferencePair, Prompt, Sample


def usable_pairs(
    pairs: Iterable[PreferencePair],
    samples: Mapping[str, Sample],
    prompts: Mapping[str, Prompt],
    rows: TensorRows,
) -> tuple[list[PreferencePair], list[str]]:
    """The pairs that can be trained on, ordered by id and each once, and one sentence for each that cannot.

    A pair needs two different videos with sample records, a known prompt, and readable latents of the shape that most
    have.
    """
    good: dict[str, tuple[PreferencePair, tuple[int, ...]]] = {}
    problems = []
    for pair in pairs:
        name = f"Pair {pair_id(pair)} (chosen {pair.chosen_id}, rejected {pair.rejected_id})"
        sides = (pair.chosen_id, pair.rejected_id)
        if pair.chosen_id == pair.rejected_id:
            problems.append(f"{name} sets a video against itself.")
        elif pair.prompt_id not in prompts:
            problems.append(f"{name} belongs to prompt {pair.prompt_id}, which is not among the prompts.")
        elif missing := [side for side in sides if side not in samples]:
            problems.append(f"{name} has no sample record of {' and '.join(missing)}.")
        else:
            try:
                shapes = [_latent_shape(samples[side], rows) for side in sides]
            except InputError as error:
                problems.append(f"{name}: {error}")
                continue
            if shapes[0] != shapes[1]:
                problems.append(f"{name} has latents of two shapes, {shapes[0]} and {shapes[1]}.")
            else:
                good[pair_id(pair)] = (pair, shapes[0])
    # Pairs of two shapes cannot lie in one batch; the few give way.
    common = Counter(shape for _, shape in good.values()).most_common(1)
    for key, (_, shape) in good.items():
        if shape != common[0][0]:
            problems.append(f"Pair {key} has latents of shape {shape}, most have {common[0][0]}.")
    return [good[key][0] for key in sorted(good) if good[key][1] == common[0][0]], problems


def _latent_shape(sample: Sample, rows: TensorRows) -> tuple[int, ...]:
    count, *shape = rows.shape(Path(sample.latents_path), "latents")
    if sample.index_in_shard >= count:
        raise InputError(f"Sample {sample.id} is number {sample.index_in_shard} of {count} in {sample.latents_path}.")
    return tuple(shape)
