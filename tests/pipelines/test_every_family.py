"""Every family from prompts to a trained adapter: ``pipelines.sample``, one step of DPO, ``pipelines.sample`` again."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment.training.config import AlignConfig
from alignment.training.trainer import align
from generators import load_generator
from generators.config import SamplingConfig
from generators.sampling import read_samples
from pipelines.sample import draw
from videoduet.records import PreferencePair, Prompt
from videoduet.store import read_json, read_records
from videoduet.video import read_video

sys.path.append(str(Path(__file__).parent.parent / "generators"))
from tiny_families import FAMILIES, make

STEP = AlignConfig(
    beta=10.0, learning_rate=1e-2, warmup_steps=0, max_steps=1, batch_size=2, micro_batch=1, draws_per_pair=1,
    lora_rank=2, lora_alpha=2, gradient_checkpointing=True,
)  # fmt: skip


def latents_of(output: Path) -> torch.Tensor:
    return torch.cat([load_file(path)["latents"] for path in sorted(output.glob("latents_*.safetensors"))])


@pytest.mark.parametrize("family", ["t2v_turbo", "modelscope", *FAMILIES])
def test_sample_train_and_sample_again(family, request, tmp_path):
    if family in FAMILIES:
        path, sampler = make(family, tmp_path), FAMILIES[family][1]
    else:
        name = {"t2v_turbo": "shipped_generator", "modelscope": "modelscope_directory"}[family]
        path, sampler = request.getfixturevalue(name), {"steps": 2, "num_frames": 3}
    (tmp_path / "prompts.txt").write_text("a red circle moving left\na blue square moving up\n")
    config = SamplingConfig(
        generator=str(path), prompts=str(tmp_path / "prompts.txt"), output=str(tmp_path / "base"), videos_per_prompt=2,
        batch_size=4, sampler=sampler,
    )  # fmt: skip
    output = draw(config)
    samples, prompts = read_samples(output, root=output), read_records(Prompt, output / "prompts.parquet")
    for sample in samples:
        assert len(read_video(sample.video_path).frames) == sample.settings.num_frames
    pairs = [
        PreferencePair(
            prompt_id=chosen.prompt_id, chosen_id=chosen.id, rejected_id=rejected.id, chosen_round=0, rejected_round=0,
            margin=1.0, agreement=1.0, comparison_ids=(),
        )
        for chosen, rejected in (samples[:2], samples[2:])
    ]  # fmt: skip
    summary = align(
        load_generator(path, sampler=sampler), pairs, {sample.id: sample for sample in samples},
        {prompt.id: prompt for prompt in prompts}, config=STEP, output_dir=tmp_path / "trained", seed=0,
        adapter=None,
    )  # fmt: skip
    assert summary["steps"] == 1 and summary["skipped_steps"] == 0
    assert summary["last_step"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert read_json(tmp_path / "trained" / "adapter" / "adapter_config.json")["r"] == 2
    again = draw(replace(config, output=str(tmp_path / "aligned"), adapter=str(tmp_path / "trained" / "adapter")))
    before, after = latents_of(output), latents_of(again)
    assert before.shape == after.shape and after.isfinite().all() and not torch.equal(before, after)
