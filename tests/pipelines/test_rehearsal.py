"""What a rehearsal finds before the hours are spent: on whole setups nothing, on broken ones what is broken."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_loop import MODELS, command, labelled_data, recipe

from pipelines.loop.config import parse
from pipelines.loop.rehearsal import checks, loop
from pipelines.loop.rehearsal.loop import Rehearsal, rehearse
from reward_model.judging.loading import load_model

sys.path.append(str(Path(__file__).parent.parent / "generators"))
from tiny_families import FAMILIES, make


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path, request):
    """No process of its own is killed but in the test that says so, and VBench is nowhere."""
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "nowhere"))
    if "kill" not in request.node.name:
        monkeypatch.setattr(loop, "_killed", lambda run, turn: "left out")


def rehearsed(root: Path, **changes) -> Rehearsal:
    """The rehearsal of a small recipe; whatever comes of it, nothing is left behind."""
    config, _ = parse(["--config", str(recipe(root, **changes))])
    before = sorted(path.name for path in root.iterdir())
    found = rehearse(config)
    assert sorted(path.name for path in root.iterdir()) == before
    return found


@pytest.mark.slow
def test_a_whole_setup_goes_through_every_phase(tmp_path):
    found = rehearsed(tmp_path)
    assert found.problems == []
    names = [step.name for step in found.steps]
    assert names[-10:] == [
        *(f"round_00/{phase}" for phase in ("sample", "rank", "align", "measure")),
        *(f"round_01/{phase}" for phase in ("sample", "refresh", "rank", "align", "measure")), "score",
    ]  # fmt: skip
    assert all(step.peak > 0 for step in found.steps)
    assert "unet float32 cpu" in found.steps[0].told and "no key missing" in found.steps[0].told
    assert "hours" in found.whole_run[0] and "GB" in found.whole_run[-1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["videocrafter2", "wan"])
def test_stand_ins_of_families(tmp_path, family):
    sampler = {**FAMILIES[family][1], "fps": 8}
    generator = {"path": str(make(family, tmp_path)), "sampler": sampler}
    assert rehearsed(tmp_path, generator=generator, rounds=1).problems == []


@pytest.mark.slow
def test_a_judge_that_never_decides_still_has_everything_tried(tmp_path):
    found = rehearsed(tmp_path, judge={"factory": "scripted_judges.AlwaysFirst"}, rounds=1)
    told = {step.name: step.told for step in found.steps}
    assert found.problems == [] and "made up" in told["round_00/rank"] and told["round_00/align"] == "done"


@pytest.mark.slow
def test_a_model_that_judges_is_refreshed_after_a_kill(tmp_path):
    judge = {"factory": None, "path": str(MODELS / "judge")}
    data = labelled_data(tmp_path, 4)
    found = rehearsed(tmp_path, judge=judge, refresh=data)
    told = {step.name: step.told for step in found.steps}
    assert found.problems == [] and "off" not in told["round_01/refresh"]
    assert "stopped with" in told["a kill in sample"]


def judge_copy(root: Path) -> Path:
    return Path(shutil.copytree(MODELS / "judge", root / "judge"))


def a_missing_shard(root: Path) -> dict:
    folder = Path(shutil.copytree(MODELS / "generator", root / "generator"))
    next(folder.glob("unet/*.safetensors")).unlink()
    return {"generator": {"path": str(folder)}}


def a_wrong_family(root: Path) -> dict:
    folder = judge_copy(root)
    kept = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**kept, "model_type": "llava"}))
    return {"judge": {"factory": None, "path": str(folder)}}


def labels_without_tokens(root: Path) -> dict:
    folder = judge_copy(root)
    kept = json.loads((folder / "judge_prompt.json").read_text())
    (folder / "judge_prompt.json").write_text(json.dumps({**kept, "labels": ["αβγ", "δεζ"]}))
    return {"judge": {"factory": None, "path": str(folder)}}


def missing_prompts(root: Path) -> dict:
    return {"prompts": {"train": str(root / "nowhere.txt")}}


def half_a_lora(root: Path) -> dict:
    model = get_peft_model(load_model(MODELS / "judge"), LoraConfig(r=2, target_modules=r".*language_model.*q_proj"))
    model.peft_config["default"].base_model_name_or_path = str(MODELS / "judge")
    model.save_pretrained(root / "lora", save_embedding_layers=False)
    file = root / "lora" / "adapter_model.safetensors"
    save_file(dict(sorted(load_file(file).items())[::2]), file)
    return {"judge": {"factory": None, "path": str(root / "lora")}}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (a_missing_shard, "loading the generator: Generator"),
        (a_wrong_family, "is a llava; give one of qwen2_5_vl"),
        (labels_without_tokens, "are no tokens; choose labels"),
        (half_a_lora, "cannot be put on"),
    ],
)
def test_what_is_broken_is_named_with_its_mend(tmp_path, broken, words):
    found = rehearsed(tmp_path, **{"rounds": 1, **broken(tmp_path)})
    assert any(words in problem for problem in found.problems), found.problems
    assert not any("please report" in problem for problem in found.problems)


def test_no_space_is_told_for_the_whole_run(tmp_path):
    config, _ = parse(["--config", str(recipe(tmp_path, rounds=1))])
    assert "make room" in (checks.space(config, 1e6, 4, 2, free=10**6) or "")
    assert checks.space(config, 1e6, 4, 2, free=10**9) is None


def test_memory_that_runs_out_names_what_to_lower(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pipelines.loop.handlers.align_round", full)
    found = rehearsed(tmp_path, rounds=1)
    assert found.problems == [
        "round_00/align: memory ran out; set align.gradient_checkpointing true, align.micro_batch 1, or lower "
        "align.lora_rank."
    ]


CAPPED = """
import resource, sys
from pipelines.loop.config import parse
from pipelines.loop.rehearsal import loop

loop._killed = lambda *_: "left out"
config, _ = parse(["--config", sys.argv[1]])
if sys.argv[2] == "cuda":
    import torch

    torch.cuda.set_per_process_memory_fraction(0.3e9 / torch.cuda.mem_get_info()[1])
else:
    # What is held already, what is imported later, and a little.
    status = open("/proc/self/status").read()
    held = 1024 * int(status.split("VmData:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (held + 3 * 2**28, resource.RLIM_INFINITY))
print(*loop.rehearse(config).problems, sep="\\n")
"""
"""Rehearses the recipe that it is given within a small cap on memory."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "changes", "where"),
    [
        (device, changes, where)
        for device in ("cpu", "cuda")
        for changes, where in (
            ({"generator": {"batch_size": 8192}}, "drawing a whole batch"),
            ({"align": {"micro_batch": 256, "gradient_checkpointing": False}}, "round_00/align"),
        )
    ],
)
def test_memory_that_runs_out_within_a_cap_is_found_by_trying(tmp_path, device, changes, where):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if device == "cpu" and (torch.cuda.is_available() or sys.platform != "linux"):
        pytest.skip("a GPU is used here, or there is no limit on a process's memory")
    file = recipe(tmp_path, rounds=1, **changes)
    line, here = [sys.executable, "-c", CAPPED, str(file), device], Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here)}
    found = subprocess.run(line, capture_output=True, text=True, check=True, cwd=here.parents[1], env=environment)
    assert f"{where}: memory ran out; " in found.stdout


def test_an_environment_that_is_missing_is_noted(tmp_path):
    score = {"vbench": {"dimensions": ["temporal_flickering"]}}
    config, _ = parse(["--config", str(recipe(tmp_path, score=score))])
    assert "setup_vbench" in next(checks.environments(config))


def test_a_file_in_the_way_of_the_run_directory(tmp_path):
    (tmp_path / "file").write_text("")
    config, _ = parse(["--config", str(recipe(tmp_path, run_dir=str(tmp_path / "file" / "run")))])
    assert "is a file; choose another --run_dir" in next(checks.directories(config))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    config, _ = parse(["--config", str(recipe(tmp_path, rounds=1, run_dir=str(tmp_path / "locked" / "run")))])
    assert any("cannot be written" in problem for problem in checks.directories(config))


def test_precision_of_a_gpu_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config, _ = parse(["--config", str(recipe(tmp_path, generator={"dtype": "bfloat16", "path": "models/t2v_turbo"}))])
    said = " ".join(checks.gpus(config))
    launch = {"align": "configs/accelerate/eight_gpus.yaml"}
    config, _ = parse(["--config", str(recipe(tmp_path, launch=launch))])
    asked = "launch.align configs/accelerate/eight_gpus.yaml asks for 8 GPUs here, and there are 0"
    assert asked in " ".join(checks.gpus(config))
    assert "generator.dtype is bfloat16" in said and "which need a GPU" in said


def test_the_command_ends_with_a_failure_where_something_would_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_rehearsed", lambda *_: None)
    assert command("--config", recipe(tmp_path, **missing_prompts(tmp_path), rounds=1), "--rehearse") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "1. " in said and "nowhere.txt does not exist" in said and "1 things would fail later" in said
    assert not (tmp_path / "run").exists()
