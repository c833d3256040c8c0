"""The pages about one's own judge and generator do what they say: their code is taken from the page and run."""

import csv
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from small_loop import command, recipe, samples_of

from pipelines.loop.config import parse
from videoduet.config import identity_fields
from videoduet.records import Comparison, PreferencePair
from videoduet.store import read_json, read_records

DOCS = Path(__file__).parent.parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_votes_of_people_align_the_generator(tmp_path, monkeypatch, capsys, no_report):
    judge, ballot = blocks("your_own_judge.md", "python")
    (tmp_path / "votes.py").write_text(judge)
    (tmp_path / "ballot.py").write_text(ballot)
    (tmp_path / "votes.yaml").write_text(blocks("your_own_judge.md", "yaml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["--config", recipe(tmp_path), "--config", "votes.yaml"]
    run = tmp_path / "runs" / "votes"

    assert command(*arguments) == 1
    assert "votes.csv" in capsys.readouterr().err
    rows = read_ballot("runs/votes/round_00/sample")
    assert len(rows) == 4 * 3
    prompts = sorted({row["one"].split("_")[2] for row in rows})
    passed, tied, liked, disliked = prompts
    for row in rows:
        prompt = row["one"].split("_")[2]
        row["better"] = {passed: "", tied: "tie", liked: min, disliked: max}[prompt]
        if callable(row["better"]):
            row["better"] = row["better"](row["one"], row["other"])
    write_votes([{"one": row["other"], "other": row["one"], "better": row["better"]} for row in rows])

    assert command(*arguments) == 1
    assert "There is no vote on G_1_" in capsys.readouterr().err
    names = {sample.id: Path(sample.video_path).name for sample in samples_of(run, "sample", 0)}
    pairs = read_records(PreferencePair, run / "round_00" / "rank" / "pairs.parquet")
    chosen = {names[pair.chosen_id].split("_", 2)[2] for pair in pairs}
    rejected = {names[pair.rejected_id].split("_", 2)[2] for pair in pairs}
    assert chosen == {f"{liked}_000.mp4", f"{disliked}_002.mp4"}
    assert rejected == {f"{liked}_002.mp4", f"{disliked}_000.mp4"}
    comparisons = read_records(Comparison, *run.glob("round_00/rank/comparisons_*.parquet"))
    assert sorted(c.status for c in comparisons) == ["decided"] * 6 + ["tie"] * 3
    assert read_json(run / "round_00" / "align" / "summary.json")["status"] == "trained"

    scored = read_ballot("runs/votes/score")
    for row in scored:
        row["better"] = row["other"]  # G_1 comes after G_0
    write_votes(rows + scored)
    assert command(*arguments) == 0
    assert read_json(run / "score" / "summary.json")["win_rate"]["judge"]["G_1"]["rate"] == 1.0


def read_ballot(folder: str) -> list[dict[str, str]]:
    printed = subprocess.run([sys.executable, "ballot.py", folder], capture_output=True, text=True, check=True).stdout
    return list(csv.DictReader(printed.splitlines()))


def write_votes(rows: list[dict[str, str]]) -> None:
    with open("votes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["one", "other", "better"])
        writer.writeheader()
        writer.writerows(rows)


def test_a_judge_takes_fifteen_lines():
    lines = blocks("your_own_judge.md", "python")[0].partition("class Votes")[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


@pytest.mark.slow
def test_another_diffusers_pipeline_is_named_in_the_config(tmp_path, modelscope_directory, monkeypatch, no_report):
    settings = yaml.safe_load(*blocks("your_own_generator.md", "yaml"))
    assert settings["generator"]["path"] == "ali-vilab/text-to-video-ms-1.7b"
    small = {"steps": 2, "num_frames": 2, "height": 16, "width": 16}
    settings["generator"] |= {"path": str(modelscope_directory), "dtype": "float32", "videos_per_prompt": 2}
    settings["generator"]["sampler"] |= small
    settings["run_dir"] = str(tmp_path / "run")
    (tmp_path / "modelscope.yaml").write_text(yaml.safe_dump(settings))
    file = recipe(tmp_path, rounds=1, prompts={"limit": 3})
    assert command("--config", file, "--config", tmp_path / "modelscope.yaml") == 0
    samples = samples_of(tmp_path / "run", "sample", 0)
    assert len(samples) == 6 and samples[0].settings.guidance_scale == 9.0
    assert read_json(tmp_path / "run" / "round_00" / "align" / "summary.json")["status"] == "trained"
    adapter = read_json(tmp_path / "run" / "final" / "generator" / "adapter_config.json")
    assert adapter["base_model_name_or_path"] == str(modelscope_directory)


@pytest.mark.parametrize("page", ["your_own_judge.md", "your_own_generator.md"])
def test_the_recipes_of_the_pages_are_valid_as_printed(tmp_path, page):
    first, *others = blocks(page, "yaml")
    (tmp_path / "page.yaml").write_text(first)
    config, _ = parse(["--config", str(recipe(tmp_path)), "--config", str(tmp_path / "page.yaml")])
    assert config.run_dir in ("runs/votes", "runs/modelscope")
    for block in others:
        (tmp_path / "page.yaml").write_text(block)
        parse(["--config", str(recipe(tmp_path)), "--config", str(tmp_path / "page.yaml")])


def test_the_snippet_about_the_run_directory_runs(finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "shapes_world").symlink_to(finished.root)
    monkeypatch.chdir(tmp_path)
    # A page's snippets go on where the one before ended.
    exec("\n".join(blocks("run_directory.md", "python")), {})
    told = capsys.readouterr().out
    assert told.count("is better than") == 4 and "G_1" in told


def test_the_pages_list_every_execution_field():
    def names(config, prefix=""):
        for field in fields(config):
            value = getattr(config, field.name)
            inner = is_dataclass(value)
            yield from names(value, f"{prefix}{field.name}.") if inner else [f"{prefix}{field.name}"]

    config = parse([])[0]
    execution = set(names(config)) - set(identity_fields(config))
    page = (DOCS / "run_directory.md").read_text()
    listed = set(re.findall(r"`([a-z_.]+)`", page.partition("*Execution* fields")[2].partition("All other fields")[0]))
    assert listed == execution
