"""The judge's refresh as a phase of the loop: GRPO on a real, tiny Qwen2.5-VL. (How it learns: tests/reward_model.)"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from scripted_judges import AlwaysFirst, Brightest
from small_loop import MODELS, config, do, labelled_data, samples_of, shipped_judge
from transformers import AutoModelForImageTextToText

from pipelines.loop import refresh as refresh_module
from pipelines.loop.config import JudgeConfig, RefreshConfig
from pipelines.loop.directory import RunDirectory
from pipelines.loop.export import export_final
from pipelines.loop.handlers import generated
from pipelines.loop.labels import generated_labels
from pipelines.loop.run import Run
from pipelines.united_finetune import run_loop
from reward_model.presets import PRESETS
from reward_model.prompts import JudgePrompt, Prompts
from reward_model.training.config import GRPOTraining
from shapes_world import all_scenes, render
from shapes_world.build_judge import PROMPT, new_judge, new_processor
from shapes_world.judge_data import ClipPair, DamagedClip
from videoduet.config import to_dict
from videoduet.records import LabelledPair
from videoduet.store import read_json, read_records, write_bytes, write_records
from videoduet.video import read_video


@pytest.fixture(scope="module")
def random_judge(tmp_path_factory) -> Path:
    """A judge with random weights, which never says anything that can be read."""
    scenes = all_scenes()[::40]
    clips = [DamagedClip(render(scene.prompt, 0), scene, 1.0, 1.0) for scene in scenes]
    processor = new_processor([ClipPair(a.scene, a, b) for a in clips for b in clips])
    path = tmp_path_factory.mktemp("models") / "judge"
    new_judge(processor, seed=0).save_pretrained(path)
    processor.save_pretrained(path)
    replace(PROMPT, max_new_tokens=4).save(path)
    return path


@pytest.fixture
def run(finished, random_judge, tmp_path) -> Run:
    """The finished run as it was before the refresh of its second number, with a judge that can be trained."""
    shutil.copytree(finished.root, tmp_path / "run")
    for name in ("round_01/refresh", "round_01/rank", "round_01/align", "score", "final"):
        shutil.rmtree(tmp_path / "run" / name)
    settings = RefreshConfig(
        **labelled_data(tmp_path, 2),
        tolerance_generated=1.0,  # what knows nothing is half as good as what made the labels
        tolerance_original=1.0,
        training=GRPOTraining(steps=1, pairs_per_step=1, num_generations=2, checkpoint_steps=1, lora_rank=2),
    )
    settings = replace(finished.config, judge=JudgeConfig(path=str(random_judge)), refresh=settings)
    return Run(RunDirectory(tmp_path / "run"), settings)


def test_the_judge_learns_from_new_videos_and_is_kept_if_it_holds_up(run, random_judge, monkeypatch):
    # Labels need a judge that can be read; training, gate and export use the model.
    monkeypatch.setattr(Run, "judge", lambda self, number: Brightest())
    output, root = run.directory.phase("refresh", 1), run.directory.root
    samples = {number: samples_of(root, "sample", number) for number in (0, 1)}
    damaged = samples[1][2]
    Path(damaged.video_path).write_bytes(b"damaged")

    do(run, "refresh", 1)

    summary = read_json(output / "summary.json")
    assert summary["status"] == "accepted" and summary["reason"] is None
    assert summary["steps"] == 1 and summary["held_out"]["original"]["n"] == 2
    assert summary["held_out"]["original"]["abstention_after"] == 1.0
    assert run.directory.quarantined() == {damaged.video_path}
    labels = read_records(LabelledPair, output / "labels.parquet", root=root)
    assert {label.source for label in labels} == {"across 1", "within 0", "within 1"}
    new, old = ({item.id for item in samples[number]} for number in (1, 0))
    for label in labels:
        chosen, other = (label.first, label.second) if label.preferred == "first" else (label.second, label.first)
        assert read_video(chosen.path).frames.mean() > read_video(other.path).frames.mean()
        assert damaged.id not in (chosen.id, other.id)
        if label.source == "across 1":
            assert chosen.id in new and other.id in old
        else:
            assert {chosen.id, other.id} <= (new if label.source == "within 1" else old)
    assert run.directory.is_done(output) and not (output / "checkpoints").exists()

    assert run.judge_adapter(0) is None and run.judge_adapter(1) == output / "adapter"
    export_final(run)
    model = AutoModelForImageTextToText.from_pretrained(random_judge)
    model = PeftModel.from_pretrained(model, root / "final" / "judge")
    assert any("lora" in name for name, _ in model.named_parameters())
    base = read_json(root / "final" / "judge" / "adapter_config.json")["base_model_name_or_path"]
    assert base == str(random_judge)


@pytest.mark.slow
def test_two_processes_refresh_together(run, monkeypatch):
    monkeypatch.setattr(Run, "judge", lambda self, number: Brightest())
    output = run.directory.phase("refresh", 1)
    settings = replace(run.config.refresh, training=replace(run.config.refresh.training, pairs_per_step=2))
    run = Run(run.directory, replace(run.config, refresh=settings))
    labels = generated_labels(generated(run, 1), Brightest(), 1)
    write_records(output / "labels.parquet", labels, LabelledPair, root=run.directory.root)
    write_bytes(run.directory.root / "config.yaml", yaml.safe_dump(to_dict(run.config)).encode())

    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "pipelines.phase"]
    command += ["refresh", "--run_dir", str(run.directory.root), "--round", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = read_json(output / "summary.json")
    assert summary["status"] == "accepted" and summary["steps"] == 1
    adapter = load_file(output / "adapter" / "adapter_model.safetensors")
    assert all(name.startswith("base_model.") for name in adapter) and run.directory.is_done(output)


def test_a_prompt_all_of_whose_old_videos_are_lost_teaches_nothing_across_rounds(run):
    old = samples_of(run.directory.root, "sample", 0)
    lost = {sample.prompt_id for sample in old[:1]}
    for sample in old:
        if sample.prompt_id in lost:
            Path(sample.video_path).unlink()
    labels = generated_labels(generated(run, 1), Brightest(), 1)
    assert {label.source for label in labels} == {"across 1", "within 0", "within 1"}
    assert not any(label.prompt.id in lost for label in labels if label.source != "within 1")


def test_a_preset_s_judge_is_trained_and_exported_as_it_is_asked(run, random_judge, tmp_path, monkeypatch):
    """VQ-Insight's layout: the weights in a subfolder, and words of their own."""
    shutil.copytree(random_judge, tmp_path / "judges" / "vqinsight-comp")
    (tmp_path / "judges" / "vqinsight-comp" / "judge_prompt.json").unlink()
    asked = replace(PRESETS["vqinsight-comp"].prompts.compare, labels=("1", "2"), max_new_tokens=4)
    monkeypatch.setitem(PRESETS, "vqinsight-comp", replace(PRESETS["vqinsight-comp"], prompts=Prompts(compare=asked)))
    judge = JudgeConfig(path=str(tmp_path / "judges"), preset="vqinsight-comp")
    run, seen = Run(run.directory, replace(run.config, judge=judge)), []
    monkeypatch.setattr(Run, "judge", lambda self, number: Brightest())
    train = refresh_module.train_judge

    def watched(path, *arguments, prompt, **named):
        seen.append((path, prompt))
        return train(path, *arguments, prompt=prompt, **named)

    monkeypatch.setattr(refresh_module, "train_judge", watched)
    do(run, "refresh", 1)
    assert seen == [(str(tmp_path / "judges" / "vqinsight-comp"), asked)]
    assert read_json(run.folder("refresh", 1) / "summary.json")["status"] == "accepted"
    export_final(run, merge=True)
    final = run.folder("final")
    base = read_json(final / "judge" / "adapter_config.json")["base_model_name_or_path"]
    assert base == str(tmp_path / "judges" / "vqinsight-comp")
    assert JudgePrompt.load(final / "merged_judge") == asked


def test_a_judge_that_gets_worse_is_dropped(run, monkeypatch):
    monkeypatch.setattr(Run, "judge", lambda self, number: Brightest())
    real = Run.load_judge
    # On pairs that the bright one decided, one that follows position is right half the time.
    monkeypatch.setattr(Run, "load_judge", lambda self, *arguments: (real(self, *arguments), AlwaysFirst())[1])
    settings = replace(run.config.refresh, tolerance_generated=0.49)
    run = Run(run.directory, replace(run.config, refresh=settings))
    do(run, "refresh", 1)
    summary = read_json(run.directory.phase("refresh", 1) / "summary.json")
    assert summary["status"] == "kept_previous"
    assert "generated pairs fell from 1.00 to 0.50" in summary["reason"]
    assert run.judge_adapter(1) is None


def test_a_judge_without_an_opinion_is_left_as_it_is(run):
    do(run, "refresh", 1)  # by the random model itself
    summary = read_json(run.directory.phase("refresh", 1) / "summary.json")
    assert summary == {"status": "off", "reason": "The judge preferred no new video to the loser before it."}
    assert run.judge_adapter(1) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enabled": False}, "refresh.enabled"),
        ({"original_data": None}, "refresh.original_data"),
        ({"held_out_data": None}, "held_out_data"),
    ],
)
def test_refresh_says_why_it_is_off(run, changes, words):
    run = Run(run.directory, replace(run.config, refresh=replace(run.config.refresh, **changes)))
    do(run, "refresh", 1)
    summary = read_json(run.directory.phase("refresh", 1) / "summary.json")
    assert summary["status"] == "off" and words in summary["reason"]
    assert run.directory.is_done(run.directory.phase("refresh", 1))


# .ci/run, like anyone's first command, does the same on more prompts.
@pytest.mark.slow
@shipped_judge
def test_the_whole_loop_with_the_judge_that_ships(tmp_path, no_report):
    judge = {"factory": None, "path": str(MODELS / "judge"), "second_path": str(MODELS / "second_judge")}
    training = {"steps": 1, "pairs_per_step": 2, "num_generations": 4}
    run = run_loop(
        config(
            tmp_path,
            prompts={"limit": 2},
            generator={"sampler": {"steps": 4, "num_frames": 8}},
            judge=judge,
            refresh={**labelled_data(tmp_path, 6), "training": training},
        )
    ).directory
    assert read_json(run.root / "round_01/refresh/summary.json")["status"] in ("accepted", "kept_previous", "off")
    for number in (0, 1):
        statistics = read_json(run.root / f"round_{number:02d}/rank/summary.json")
        assert statistics["comparisons"] == 6 and statistics["unparsable"] <= 2
    rates = read_json(run.root / "score/summary.json")["win_rate"]
    assert set(rates) == {"judge", "frozen_judge", "second_judge"}
    assert all(np.isfinite(rate["rate"]) for rate in rates["second_judge"].values())
    assert (run.root / "final" / "judge" / "adapter_config.json").exists()
