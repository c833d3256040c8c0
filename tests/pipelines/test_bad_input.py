"""What a user may get wrong is answered by one clear sentence that names it, and an exit code; never by a traceback."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_loop import command, recipe

from pipelines import phase, united_finetune
from pipelines.loop.config import parse
from pipelines.loop.run import Run
from videoduet.errors import InputError

HERE = Path(__file__).parent


@pytest.fixture
def refused(capsys):
    """Run the command, expect it to stop with a code, and give back what it said."""

    def run(code, *arguments):
        assert command(*arguments) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return " ".join(said.err.split())

    return run


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_an_unknown_key_on_the_command_line(refused, tmp_path):
    assert "roundz" in refused(2, "--config", recipe(tmp_path), "--roundz", 3)


@pytest.mark.parametrize(("section", "key"), [("generator", "videos_per_promt"), ("align", "betta")])
def test_an_unknown_key_in_the_recipe(refused, tmp_path, section, key):
    assert key in refused(2, "--config", recipe(tmp_path, **{section: {key: 1}}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": {"videos_per_prompt": 1}}, "videos_per_prompt is 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"judge": {"factory": None}}, "No judge is named"),
        ({"pairs": {"pairs_per_prompt": 3}}, "pairs_per_prompt is 3"),
        ({"align": {"beta": -1}}, "beta is -1"),
        ({"align": {"objective": "nonsense"}}, "nonsense"),
        ({"rounds": "many"}, "many"),
        ({"refresh": {"training": {"num_generations": 1}}}, "num_generations is 1"),
        ({"refresh": {"training": {"steps": 0}}}, "steps is 0"),
        ({"refresh": {"held_out_prompts": 2}}, "held_out_prompts is 2"),
        ({"launch": {"samples": "sample.yaml"}}, "launch names samples"),
    ],
)
def test_impossible_settings_are_wrong_usage(refused, tmp_path, changes, words):
    assert words in refused(2, "--config", recipe(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there(refused, tmp_path):
    assert "nowhere.yaml" in refused(2, "--config", tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "does not exist"), ("", "is empty"), (" \n\n", "is empty"), (b"\xff\xfe\x00prompt", "is not UTF-8 text")],
)
def test_prompts_that_cannot_be_read(refused, tmp_path, text, words):
    path = tmp_path / "mine.txt"
    if text is not None:
        written(path, text)
    said = refused(1, "--config", recipe(tmp_path, prompts={"train": str(path)}))
    assert f"Prompts file {path} {words}" in said and "one prompt a line" in said


def test_a_config_that_contradicts_the_run_directory(refused, tmp_path):
    file = recipe(tmp_path)
    kept = tmp_path / "run" / "config.yaml"
    written(tmp_path / "other.txt", "another prompt\n")
    Run.start(united_finetune.parse(["--config", str(file)])[0])
    before = kept.read_bytes()
    for option, value, touched in (
        ("--seed", 7, "sample"),
        ("--align.beta", 1.5, "align"),
        ("--pairs.min_margin", 0.5, "rank"),
        ("--prompts.held_out", tmp_path / "other.txt", "measure"),
    ):
        said = refused(1, "--config", file, option, value)
        assert option[2:] in said and str(value) in said and f"--from {touched}" in said
    assert kept.read_bytes() == before


def test_a_sibling_of_nothing(refused, tmp_path):
    assert "is no run directory" in refused(2, "--config", recipe(tmp_path), "--from", "align")


def test_a_sibling_from_an_unknown_phase(refused, tmp_path):
    file = recipe(tmp_path)
    Run.start(united_finetune.parse(["--config", str(file)])[0])
    said = refused(2, "--config", file, "--from", "train")
    assert "'train'" in said and "round_00/align" in said


def test_a_file_where_the_run_directory_should_be(refused, tmp_path):
    path = written(tmp_path / "file", "")
    assert f"{path}/run" in refused(1, "--config", recipe(tmp_path), "--run_dir", path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission(refused, tmp_path):
    file, locked = recipe(tmp_path), tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot be" in refused(1, "--config", file, "--run_dir", locked / "run")


def test_a_generator_that_is_none(refused, tmp_path):
    said = refused(1, "--config", recipe(tmp_path, generator={"path": str(tmp_path)}))
    assert "no model_index.json" in said and str(tmp_path) in said


def test_a_sampler_setting_that_does_not_exist(refused, tmp_path):
    assert "'step'" in refused(2, "--config", recipe(tmp_path, generator={"sampler": {"step": 4}}))


def test_more_steps_than_the_sampler_has(refused, tmp_path):
    assert "steps is 60" in refused(2, "--config", recipe(tmp_path, generator={"sampler": {"steps": 60}}))


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = re.sub(r"\s+", " ", capsys.readouterr().out).split(" options: ")[1]
    options = re.findall(
        r"(--[a-z_]+(?:\.[a-z_]+)+|--seed|--rounds|--run_dir) (?:{[^}]*}|\S+) (.*?)(?= --[a-z]|$)", shown
    )
    assert len(options) > 40
    for name, rest in options:
        words = re.split(r"\((?:type|default):", rest)[0]
        assert len(re.findall(r"[a-zA-Z]{2,}", words)) >= 2, f"{name} is not explained"


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("nowhere.Judge", {}),
        ("scripted_judges.Nobody", {}),
        ("Judge", {}),
        ("scripted_judges.Brightest", {"volume": 3}),
    ],
)
def test_a_judge_class_that_cannot_be_made(tmp_path, factory, arguments):
    run = Run.start(united_finetune.parse(["--config", str(recipe(tmp_path))])[0])
    judge = run.config.judge.__class__(factory=factory, arguments=arguments)
    config = run.config.__class__(**{**vars(run.config), "judge": judge})
    with pytest.raises(InputError, match=f"judge.factory {factory} cannot be used"):
        Run(run.directory, config).judge(0)


def test_words_in_brackets_are_shown_as_they_are(refused, tmp_path):
    assert "[/bold]mine" in refused(1, "--config", recipe(tmp_path, prompts={"train": "[/bold]mine"}))


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(28, "No space left on device", "clips/1.mp4"), "clips/1.mp4"), (OSError("odd failure"), "odd failure")],
)
def test_what_the_disk_refuses_is_said(refused, tmp_path, monkeypatch, error, words):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(united_finetune, "run_loop", full)
    said = refused(1, "--config", recipe(tmp_path))
    assert words in said and "the same command" in said and "None" not in said


def phase_command(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        phase.main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return stop.value.code, " ".join(said.split())


def test_a_phase_in_no_run_directory(tmp_path, capsys):
    code, said = phase_command(capsys, "sample", "--run_dir", tmp_path)
    assert code == 2 and f"{tmp_path} is no run directory" in said


def test_a_phase_before_its_turn(tmp_path, capsys):
    run = Run.start(united_finetune.parse(["--config", str(recipe(tmp_path))])[0]).directory
    options = ("--run_dir", run.root, "--round")
    for name, number, missing in (
        ("rank", 0, "round_00/sample"),
        ("rank", 1, "round_01/sample"),
        ("refresh", 1, "round_01/sample"),
        ("sample", 1, "round_00/align"),
        ("score", 0, "round_01/align"),
    ):
        code, said = phase_command(capsys, name, *options, number)
        assert code == 1 and f"needs {missing}" in said
    for name, number in (("sample", 2), ("refresh", 0), ("sample", -1)):
        code, said = phase_command(capsys, name, *options, number)
        assert code == 2 and f"no {name} in round {number}" in said
    assert not list(run.root.rglob("done.json"))


def stopped_by_ctrl_c(root: Path, code: int, said: str) -> None:
    """That whoever stopped the run of ``root`` is told how to go on, and lost nothing."""
    assert code == 130, said
    assert "Stopped. Nothing is lost; go on with: the same command" in said
    assert "Traceback" not in said
    assert yaml.safe_load((root / "run" / "config.yaml").read_text())["judge"]["factory"] == "patient.Judge"
    assert (root / "run" / "round_00" / "sample" / "done.json").exists()


def patient(root: Path, waits: str) -> Path:
    """A recipe whose judge ``waits``, so that the signal comes while a phase is at work."""
    written(root / "patient.py", PATIENT.format(waits=waits))
    return recipe(root, rounds=1, prompts={"limit": 1}, judge={"factory": "patient.Judge"})


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    # A test run in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = command("--config", patient(tmp_path, "signal.raise_signal(signal.SIGINT)"))
    finally:
        signal.signal(signal.SIGINT, before)
    stopped_by_ctrl_c(tmp_path, code, capsys.readouterr().err)


@pytest.mark.slow
def test_ctrl_c_to_a_process_of_its_own(tmp_path):
    file = patient(tmp_path, "time.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(tmp_path)])}
    options = ["-m", "pipelines.united_finetune", "--config", str(file)]
    # A test run in the background ignores Ctrl-C, and its children would inherit that.
    process = subprocess.Popen(
        [sys.executable, *options],
        env=environment,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "waiting").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1].decode()
    stopped_by_ctrl_c(tmp_path, process.returncode, said)


PATIENT = """
import pathlib, signal, time
class Judge:
    def compare(self, pairs):
        (pathlib.Path(__file__).parent / "waiting").touch()
        {waits}
        yield
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rouns: 2", "'rouns' is not accepted; did you mean --rounds?"),
        ("align: {bta: 2}", "'bta'; did you mean --align.beta?"),
        ("refresh: {training: {stpes: 2}}", "did you mean --refresh.training.steps?"),
        ("align: 5", "align is 5, which is no section"),
        ("align: {objective: nonsense}", "align.objective is nonsense; give one of sigmoid, hinge, ipo"),
        ("rounds: many", "rounds is many; give a whole number"),
        ("align: {gradient_checkpointing: 7}", "is 7; give true or false or one of feed_forward, twice, auto"),
        ("align: {max_steps: few}", "align.max_steps is few; give a whole number or null"),
        ("schema_version: 99", "written by a newer VideoDuet"),
        ("schema_version: null", "No judge is named"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_alone_with_what_was_meant(refused, tmp_path, text, words):
    said = refused(2, "--config", written(tmp_path / "recipe.yaml", text), "--run_dir", tmp_path / "run")
    assert words in said and len(said) < 300
    assert not (tmp_path / "run").exists()
