"""The run directory: where phases lie, what a changed config touches, what siblings share."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from alignment.training.config import AlignConfig
from pipelines.loop.config import JudgeConfig, RunConfig
from pipelines.loop.directory import RunDirectory
from pipelines.loop.phases import earliest_phase
from videoduet.errors import InputError
from videoduet.records import Sample, SamplerSettings
from videoduet.store import read_json, read_records, write_json, write_records

CONFIG = RunConfig(rounds=2, judge=JudgeConfig(factory="scripted_judges.Brightest"))
OTHER_BETA = replace(CONFIG, align=AlignConfig(beta=2.0))


def test_paths_of_phases(tmp_path):
    run = RunDirectory(tmp_path / "run")
    assert run.phase("rank", 3) == tmp_path / "run" / "round_03" / "rank"
    assert run.phase("score") == tmp_path / "run" / "score"


@pytest.mark.parametrize(
    ("changed", "name", "old", "phase"),
    [
        (replace(CONFIG, seed=1), "seed", "0", "sample"),
        (OTHER_BETA, "align.beta", "5000.0", "align"),
        (replace(CONFIG, judge=JudgeConfig(factory="a.B")), "judge.factory", "'scripted_judges.Brightest'", "rank"),
    ],
)
def test_a_changed_identity_field_is_refused_by_name_and_phase(tmp_path, changed, name, old, phase):
    run = RunDirectory(tmp_path)
    run.adopt_config(CONFIG)
    kept = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(InputError) as caught:
        run.adopt_config(changed)
    message = str(caught.value)
    assert f"{name} = {old}" in message and f"--from {phase}" in message and str(tmp_path) in message
    assert (tmp_path / "config.yaml").read_bytes() == kept


def test_a_field_may_be_listed_apart_from_its_section():
    assert (earliest_phase("prompts.train"), earliest_phase("prompts.held_out")) == ("sample", "measure")
    assert (earliest_phase("judge.path"), earliest_phase("judge.second_path")) == ("rank", "measure")
    assert earliest_phase("unheard.of") == "sample"  # what no phase lists touches everything


def a_run(root: Path) -> RunDirectory:
    run = RunDirectory(root)
    run.adopt_config(CONFIG)
    for name in ("round_00/sample", "round_00/align", "round_01/sample"):
        write_json(run.root / name / "data.json", {"phase": name})
        if name != "round_01/sample":
            run.finish(run.root / name)
    return run


def test_a_sibling_shares_earlier_phases_by_hard_link(tmp_path):
    run = a_run(tmp_path / "run")
    sibling = run.sibling("align", CONFIG)
    assert sibling.root == tmp_path / "run_from_round_00_align_1"
    assert sibling.is_done(sibling.phase("sample", 0))
    assert os.path.samefile(sibling.root / "round_00/sample/data.json", run.root / "round_00/sample/data.json")
    assert not (sibling.root / "round_00/align").exists()


def test_the_same_sibling_is_gone_on_with_and_another_config_gets_its_own(tmp_path):
    run = a_run(tmp_path / "run")
    write_json(run.root / "prompts.parquet", ["a"])
    first = run.sibling("align", CONFIG)
    assert read_json(first.root / "prompts.parquet") == ["a"]
    write_json(first.root / "round_00/align/data.json", {"half": "done"})
    again = run.sibling("align", CONFIG)
    assert again.root == first.root and (again.root / "round_00/align/data.json").exists()
    other = run.sibling("align", OTHER_BETA)
    assert other.root == tmp_path / "run_from_round_00_align_2"
    assert sorted(os.listdir(tmp_path)) == ["run", "run_from_round_00_align_1", "run_from_round_00_align_2"]


def test_a_sibling_shares_only_what_is_done_and_can_start_in_a_later_round(tmp_path):
    run = a_run(tmp_path / "run")
    sibling = run.sibling("score", CONFIG)
    assert sibling.is_done(sibling.phase("align", 0))
    assert not (sibling.root / "round_01").exists()
    assert not (run.sibling("round_01/sample", CONFIG).root / "round_01").exists()


def test_a_sibling_cannot_change_what_it_shares(tmp_path):
    run = a_run(tmp_path / "run")
    sibling = run.sibling("align", CONFIG)
    write_json(sibling.root / "round_00/sample/data.json", {"phase": "changed"})
    assert read_json(run.root / "round_00/sample/data.json") == {"phase": "round_00/sample"}


def test_a_sibling_knows_what_was_quarantined(tmp_path):
    run = a_run(tmp_path / "run")
    run.quarantine(str(run.root / "round_00/sample/videos/x.mp4"), "damaged")
    sibling = run.sibling("align", CONFIG)
    assert sibling.quarantined() == {str(sibling.root / "round_00/sample/videos/x.mp4")}


def test_an_unknown_phase_is_wrong_usage(tmp_path):
    run = a_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"'train'.*round_00/align") as caught:
        run.sibling("train", CONFIG)
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == ["run"]


def test_a_sibling_may_not_share_a_phase_that_its_config_changes(tmp_path):
    run, changed = a_run(tmp_path / "run"), replace(OTHER_BETA, seed=3)
    assert run.touched(changed) == {"seed": "sample", "align.beta": "align"}
    with pytest.raises(InputError, match=r"another seed.*--from sample") as caught:
        run.sibling("align", changed)
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == ["run"]
    assert run.sibling("sample", changed).root.exists()


def test_videos_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, file = RunDirectory("run"), tmp_path / "run" / "samples.parquet"
    settings = SamplerSettings(steps=1, guidance_scale=1.0, fps=8.0, num_frames=1, height=8, width=8)
    sample = Sample(
        id="v", prompt_id="p", index=0, seed=0, generator="G_0", round=0, settings=settings, index_in_shard=0,
        video_path=str(tmp_path / "run" / "x" / "v.mp4"), latents_path="/data/latents.safetensors",
    )  # fmt: skip
    write_records(file, [sample], Sample, root=run.root)
    assert read_records(Sample, file)[0].video_path == "x/v.mp4"  # as it is kept: the run may move
    assert read_records(Sample, file, root=run.root) == [sample]
