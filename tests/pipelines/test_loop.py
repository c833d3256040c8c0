"""The loop from end to end with the generator that ships and judges whose taste is known."""

import html
import math
import os
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from diffusers import UNet3DConditionModel
from peft import PeftModel
from safetensors.torch import load_file
from small_loop import SCENES, command, config, do, recipe, results, samples_of

from generators import T2VTurboPipeline
from generators.loading import load_generator, with_adapter
from pipelines.loop.plan import counts
from pipelines.loop.run import Run
from pipelines.united_finetune import run_loop
from videoduet.records import Comparison, PreferencePair
from videoduet.store import read_json, read_records
from videoduet.video import read_video

PHASES = [
    *(f"round_00/{name}" for name in ("sample", "rank", "align", "measure")),
    *(f"round_01/{name}" for name in ("sample", "refresh", "rank", "align", "measure")),
    "score",
]


def pairs_of(root, number=0):
    return read_records(PreferencePair, root / f"round_{number:02d}" / "rank" / "pairs.parquet")


def adapter_of(root, number):
    return load_file(root / f"round_{number:02d}" / "align" / "adapter" / "adapter_model.safetensors")


def test_every_file_of_the_design_is_there(finished):
    for name in PHASES:
        assert read_json(finished.root / name / "done.json")["counts"], name
    for name in ("config.yaml", "environment.json", "report.html", "final/generator/adapter_config.json"):
        assert (finished.root / name).stat().st_size > 0
    assert "torch" in read_json(finished.root / "environment.json")
    assert not (finished.root / "final" / "judge").exists()  # a class has no adapter
    assert not list(finished.root.rglob(".*"))


def test_every_video_was_drawn_and_every_pair_compared(finished):
    for number in (0, 1):
        samples = samples_of(finished.root, "sample", number)
        assert len({item.id for item in samples}) == 12
        assert {item.generator for item in samples} == {f"G_{number}"}
        comparisons = read_records(Comparison, *finished.root.glob(f"round_{number:02d}/rank/comparisons_*.parquet"))
        asked = {frozenset((c.first_id, c.second_id)) for c in comparisons}
        assert len(comparisons) == len(asked) == 4 * math.comb(3, 2)
        by_prompt = {item.id: item.prompt_id for item in samples}
        assert all(by_prompt[c.first_id] == by_prompt[c.second_id] == c.prompt_id for c in comparisons)


def test_pairs_say_what_the_judge_likes(finished):
    names = pq.read_schema(finished.root / "round_00" / "rank" / "pairs.parquet").names
    assert names == [field.name for field in fields(PreferencePair)]
    for number in (0, 1):
        samples = {item.id: item for item in samples_of(finished.root, "sample", number)}
        pairs = pairs_of(finished.root, number)
        assert len(pairs) == 4
        for pair in pairs:
            light = {
                video: read_video(item.video_path).frames.mean()
                for video, item in samples.items()
                if item.prompt_id == pair.prompt_id
            }
            assert pair.chosen_id == max(light, key=light.get) and pair.rejected_id == min(light, key=light.get)
            assert (pair.chosen_round, pair.rejected_round, pair.agreement) == (number, number, 1.0)


def test_each_round_draws_with_what_the_last_one_learned(finished):
    first, second = (adapter_of(finished.root, number) for number in (0, 1))
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    final = load_file(finished.root / "final" / "generator" / "adapter_model.safetensors")
    assert all(torch.equal(final[name], second[name]) for name in second)
    run = Run(Run.open(finished.root).directory, finished.config)
    assert [run.generator_adapter(number) and run.generator_adapter(number).parts[-3] for number in range(3)] == [
        None, "round_00", "round_01",
    ]  # fmt: skip
    seeds = [{item.seed for item in samples_of(finished.root, "sample", r)} for r in (0, 1)]
    assert not seeds[0] & seeds[1]


def test_every_version_is_scored_on_the_same_noise(finished):
    output = finished.root / "score"
    summary = read_json(output / "summary.json")
    assert summary["versions"] == ["G_0", "G_1", "G_2"]
    versions = [samples_of(finished.root, "score", version=name) for name in summary["versions"]]
    seeds = [[item.seed for item in version] for version in versions]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len({item.id for items in versions for item in items}) == 6
    for rate in summary["win_rate"]["judge"].values():
        assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1 and rate["total"] == 2
    light = [[read_video(item.video_path).frames.mean() for item in version] for version in versions]
    brighter = sum(new > old for old, new in zip(light[0], light[2], strict=True))
    assert summary["win_rate"]["judge"]["G_2"]["rate"] == brighter / 2


def test_the_adapter_loads_with_plain_diffusers_and_peft(finished, shipped_generator):
    path = finished.root / "final" / "generator"
    base = read_json(path / "adapter_config.json")["base_model_name_or_path"]
    assert os.path.samefile(base, shipped_generator)
    unet = PeftModel.from_pretrained(UNet3DConditionModel.from_pretrained(base, subfolder="unet"), path).eval()
    ours = with_adapter(load_generator(shipped_generator), path).denoiser
    latents, embeds = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 24, 64)
    guidance = torch.randn(1, unet.config.time_cond_proj_dim)
    with torch.no_grad():
        outputs = [
            model(latents.to(model.dtype), 519, embeds.to(model.dtype), timestep_cond=guidance.to(model.dtype)).sample
            for model in (unet, ours, load_generator(shipped_generator).denoiser)
        ]
    torch.testing.assert_close(outputs[0].float(), outputs[1].float(), rtol=0, atol=5e-3)
    assert (outputs[1] - outputs[2]).abs().max() > 2e-2


def test_the_same_command_does_nothing_the_second_time(finished, capsys):
    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_ino)
            for name in PHASES
            for path in (finished.root / name).rglob("*")
        }

    before, calls, files = state(), finished.calls.read_text(), results(finished.root)
    run_loop(finished.config)
    assert state() == before and finished.calls.read_text() == calls and results(finished.root) == files
    assert capsys.readouterr().err.count("done before") == len(PHASES)


def test_the_printed_snippet_loads_the_generator_from_the_run_directory(finished, monkeypatch):
    """The recipe names the generator relative to where the command was typed."""
    page = (finished.root / "report.html").read_text("utf-8")
    code = html.unescape(re.search(r'<pre id="load-generator">(.*?)</pre>', page, re.S).group(1))
    monkeypatch.chdir(finished.root)
    names: dict = {}
    exec(code, names)
    assert any("lora_B" in name and value.abs().max() > 0 for name, value in names["unet"].state_dict().items())


def test_the_plan_counts_what_is_made(finished):
    plan = counts(finished.config, prompts=4, held_out=2, steps=4)
    assert plan["videos"] == len(list(finished.root.rglob("*.mp4")))
    rolled = sum(
        2 * pq.read_metadata(path).num_rows for path in finished.root.glob("round_*/rank/comparisons_*.parquet")
    )
    assert rolled < plan["judge rollouts"] <= rolled + 2 * 3 * 2 * 2
    assert plan["GRPO rollouts"] == 0
    steps = sum(read_json(finished.root / name / "done.json")["counts"]["steps"] for name in PHASES if "align" in name)
    assert plan["denoiser forwards (alignment)"] == steps * finished.config.align.batch_size * 2 * 4


def test_from_align_makes_a_sibling_that_shares_what_came_before(finished, no_report, monkeypatch):
    root = finished.root.parent
    file = recipe(root, "sibling.yaml", judge={"arguments": {"calls": str(finished.calls)}}, align={"beta": 30.0})
    assert command("--config", file, "--rounds", 1, "--from", "align", "--merge") == 0
    sibling = root / "run_from_round_00_align_1"
    for name in ("sample/samples_G_0_00000.parquet", "rank/pairs.parquet"):
        assert os.path.samefile(sibling / "round_00" / name, finished.root / "round_00" / name)
    old, new = adapter_of(finished.root, 0), adapter_of(sibling, 0)
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert (sibling / "score" / "done.json").exists() and not (sibling / "round_01").exists()
    merged = T2VTurboPipeline.from_pretrained(sibling / "final" / "merged_generator").unet.state_dict()
    expected = with_adapter(load_generator(finished.config.generator.path), sibling / "round_00/align/adapter")
    assert all(torch.equal(merged[name], value) for name, value in expected.denoiser.state_dict().items())


def test_from_a_phase_too_late_for_the_change_is_refused(finished, monkeypatch, capsys):
    file = recipe(finished.root.parent, "late.yaml", judge={"arguments": {"calls": str(finished.calls)}}, seed=5)
    siblings = len(list(finished.root.parent.iterdir()))
    assert command("--config", file, "--from", "align") == 2
    assert "another seed" in capsys.readouterr().err
    assert len(list(finished.root.parent.iterdir())) == siblings


def test_a_judge_that_follows_position_teaches_nothing_and_rounds_may_grow(tmp_path, no_report):
    settings = config(tmp_path, judge={"factory": "scripted_judges.AlwaysFirst"}, rounds=1)
    run = run_loop(settings).directory
    assert pairs_of(run.root) == []
    summary = read_json(run.root / "round_00" / "align" / "summary.json")
    assert summary["status"] == "skipped"
    assert "follows position" in summary["reason"] and "100%" in summary["reason"]
    assert summary["reason"].count(".") == 1
    assert not (run.root / "round_00" / "align" / "adapter").exists()
    assert read_json(run.root / "score" / "summary.json")["win_rate"]["judge"]["G_1"]["rate"] == 0.5
    weights = load_file(run.root / "final" / "generator" / "adapter_model.safetensors")
    assert all(not value.any() for name, value in weights.items() if "lora_B" in name)

    before = results(run.root)
    run_loop(replace(settings, rounds=2))
    assert read_json(run.root / "score" / "summary.json")["versions"] == ["G_0", "G_1", "G_2"]
    after = results(run.root)
    kept = [name for name in before if not name.startswith(("score/comparisons", "final"))]
    assert len(kept) > 20 and all(after[name] == before[name] for name in kept)
    assert (run.root / "round_01" / "align" / "done.json").exists()


def test_a_damaged_video_is_quarantined_and_the_run_goes_on(tmp_path, no_report):
    settings = config(tmp_path, rounds=1)
    run = Run.start(settings)
    do(run, "sample", 0)
    bad = samples_of(run.directory.root, "sample", 0)[1]
    Path(bad.video_path).write_bytes(b"\0" * 500)
    run_loop(settings)
    quarantined = [row["path"] for row in read_json(run.directory.root / "quarantine.json")]
    assert quarantined == [os.path.relpath(bad.video_path, run.directory.root)]
    comparisons = read_records(Comparison, *run.directory.root.glob("round_00/rank/comparisons_*.parquet"))
    assert len(comparisons) == 3 * 3 + 1
    assert bad.id not in {video for c in comparisons for video in (c.first_id, c.second_id)}
    assert len(pairs_of(run.directory.root)) == 4 and run.directory.is_done(run.directory.phase("score"))


def test_training_needs_latents_and_no_videos(finished, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(finished.root, root)
    shutil.rmtree(root / "round_01" / "align")
    shutil.rmtree(root / "round_01" / "sample" / "videos")
    run = Run.open(root)
    do(run, "align", 1)
    assert adapter_of(root, 1).keys() == adapter_of(finished.root, 1).keys()
    assert all(torch.equal(value, adapter_of(finished.root, 1)[name]) for name, value in adapter_of(root, 1).items())
    assert run.directory.quarantined() == set()


def test_a_damaged_video_among_the_scored_is_left_out(finished, tmp_path, no_report):
    root = tmp_path / "run"
    shutil.copytree(finished.root, root)
    for path in ("score/done.json", *(path.relative_to(root) for path in root.glob("score/comparisons_*"))):
        (root / path).unlink()
    bad = samples_of(root, "score", version="G_2")[0]
    Path(bad.video_path).write_bytes(b"")
    run_loop(replace(finished.config, run_dir=str(root)))
    assert read_json(root / "quarantine.json")[0]["path"] == os.path.relpath(bad.video_path, root)
    rates = read_json(root / "score" / "summary.json")["win_rate"]["judge"]
    assert (rates["G_1"]["decided"], rates["G_2"]["decided"], rates["G_2"]["total"]) == (2, 1, 2)


def test_limit_takes_the_first_prompts_and_duplicates_count_once(tmp_path):
    text = f"\n  {SCENES[3].prompt} \n{SCENES[3].prompt}\n\n{SCENES[2].prompt}\n{SCENES[1].prompt}\n"
    (tmp_path / "train.txt").write_text(text)
    run = Run.start(config(tmp_path, prompts={"limit": 2}))
    assert [prompt.text for prompt in run.prompts] == [SCENES[3].prompt, SCENES[2].prompt]
    assert run.prompts[0].source == "train.txt"
    (tmp_path / "train.txt").write_text("something else\n")
    assert Run.open(tmp_path / "run").prompts == run.prompts  # the prompts are fixed for the run


@pytest.mark.parametrize("number", [1, 2])
def test_cross_fitting_refreshes_on_one_half_and_labels_the_other(tmp_path, number):
    run = Run.start(config(tmp_path, refresh={"cross_fit": True}))
    split = run.split
    labelled, refreshing = ({p.id for p in group(number)} for group in (split.labelled, split.refreshing))
    assert labelled | refreshing == {prompt.id for prompt in run.prompts}
    assert not labelled & refreshing and len(labelled) == 2
    assert split.labelled(0) == run.prompts
    assert {prompt.id for prompt in split.labelled(number + 1)} == refreshing
