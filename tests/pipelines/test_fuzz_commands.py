"""Damaged files given to the commands themselves, as a user gives them: each line ends in one sentence, or is done.

Seeded, so that a failure can be looked at again: it names the file's kind and the number of the damage. Models are not
drawn, trained or asked here: judges are stand-ins, generators are nowhere or loaded once.
"""

import json
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from damaged_files import DATA_SETS, DPO, KINDS, RECIPE, TRAINING, damaged, video, wholes

from alignment.training import offline
from generators.loading import load_generator
from pipelines import (
    convert_generator,
    evaluate_judge,
    evaluate_vbench,
    judge,
    phase,
    sample,
    setup_vbench,
    train_generator,
    train_reward_model,
    united_finetune,
)
from pipelines.report.__main__ import main as report
from reward_model.judging import batch
from reward_model.judging.base import Answer, VideoJudge
from reward_model.prompts import DEFAULT_PROMPT, Prompts
from videoduet.store import write_json

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "reward_model"))
from miniature import write_miniature  # noqa: E402

NUMBERS = [range(2), pytest.param(range(2, 40), marks=pytest.mark.slow)]
"""Damages of each kind of file on each line."""
OLD = HERE.parent / "fixtures" / "run_16c8d0d"
Line = tuple[Callable[[Sequence[str]], None], list[str]]
"""A command and its arguments, in which FILE stands for the damaged one."""


class Sayer(VideoJudge):
    """Says the same of everything."""

    def __init__(self) -> None:
        super().__init__(Prompts(compare=DEFAULT_PROMPT), judge_id="sayer")

    def answer(self, questions: Iterator) -> Iterator[Answer]:
        for _ in questions:
            yield Answer("<answer>1</answer>")


NOWHERE = ["--generator.path", "nowhere"]
CONVERTED = ["--checkpoint", "FILE", "--output", "out", "--tokenizer", "nowhere"]
LINES: list[tuple[str, Line]] = [
    *(
        (f"prompts.{suffix}", line)
        for suffix in ("txt", "csv", "json", "parquet")
        for line in (
            (sample.main, ["--generator", "nowhere", "--prompts", "FILE", "--output", "out"]),
            (united_finetune.main, ["--run_dir", "run", "--prompts.train", "FILE", *NOWHERE]),
            (united_finetune.main, ["--run_dir", "run", "--prompts.held_out", "FILE", *NOWHERE]),
        )
    ),
    *((f"pairs.{suffix}", (judge.main, ["compare", "--batch", "FILE", "--json"])) for suffix in ("csv", "jsonl")),
    *(("videos.csv", (judge.main, [name, "--batch", "FILE"])) for name in ("score", "describe", "rank")),
    *(("a.mp4", (judge.main, [name, "FILE", "whole.mp4"])) for name in ("compare", "score", "rank")),
    *(
        ("labelled.jsonl", (united_finetune.main, ["--run_dir", "run", f"--refresh.{name}", "FILE", *NOWHERE]))
        for name in ("original_data", "held_out_data")
    ),
    *(
        (f"preferences.{suffix}", (train_generator.main, ["--generator", "g", "--data", "FILE", "--output", "out"]))
        for suffix in ("json", "jsonl")
    ),
    ("recipe.yaml", (united_finetune.main, ["--config", "FILE", "--run_dir", "run", "--plan"])),
    ("recipe.yaml", (united_finetune.main, ["--config", "FILE", "--run_dir", "run"])),
    ("judge.yaml", (train_reward_model.main, ["--config", "FILE"])),
    ("dpo.yaml", (train_generator.main, ["--config", "FILE", "--align.max_steps", "1"])),
    ("dpo.yaml", (sample.main, ["--config", "FILE"])),
    ("recipe.yaml", (evaluate_judge.main, ["--config", "FILE"])),
    ("recipe.yaml", (evaluate_vbench.main, ["--config", "FILE"])),
    ("recipe.yaml", (setup_vbench.main, ["--config", "FILE", "--tier", "nonsense"])),
    ("recipe.yaml", (report, ["--config", "FILE", "nowhere"])),
    *(
        (name, (convert_generator.main, ["videocrafter2", *CONVERTED])) for name in ("a.ckpt", "a.safetensors")
    ),
    ("a.ckpt", (convert_generator.main, ["t2v_turbo", *CONVERTED, "--unet", "FILE"])),
    ("a.ckpt", (convert_generator.main, ["t2v_turbo_ms", "--base", "nowhere", "--lora", "FILE", "--output", "out"])),
]  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def generator(shipped_generator):
    return load_generator(shipped_generator, sampler={"num_frames": 2})


@pytest.fixture
def quick(monkeypatch, generator, tmp_path) -> None:
    """In an empty folder, with nothing of what takes long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "environments"))
    monkeypatch.setattr(batch, "load_judge", lambda config: Sayer())
    monkeypatch.setattr(offline, "load_generator", lambda *_, **__: generator)
    monkeypatch.setattr(offline, "align", lambda *_, **__: sys.exit(1))


def wrong(line: Line, capsys: pytest.CaptureFixture[str]) -> str | None:
    """How the command ends, unless it is done, or ends in one sentence."""
    main, arguments = line
    try:
        main(arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        return traceback.format_exc()
    said = capsys.readouterr().err
    well = code in (0, None, 1, 2) and "Traceback" not in said and "\x1b[" not in said and said.count("error: ") <= 1
    return None if well else f"exit code {code}: {said}"


@pytest.mark.parametrize("numbers", NUMBERS, ids=["few", "many"])
@pytest.mark.parametrize(
    ("name", "line"),
    LINES,
    ids=[f"{line[0].__module__.split('.')[1]}-{name}-{n}" for n, (name, line) in enumerate(LINES)],
)
def test_a_line_with_a_damaged_file(name, line, numbers, quick, tmp_path, capsys):
    others = [content for other, content in wholes().items() if other != name]
    video(tmp_path / "whole.mp4")
    path = tmp_path / name
    main, arguments = line
    for number in numbers:
        rng = np.random.default_rng([number, *name.encode()])
        path.write_bytes(damaged(wholes()[name], rng, others))
        given = [str(path) if argument == "FILE" else argument for argument in arguments]
        assert wrong((main, given), capsys) is None, (name, number)
        for left in ("run", "out", "o"):
            shutil.rmtree(tmp_path / left, ignore_errors=True)


@pytest.mark.parametrize("numbers", NUMBERS, ids=["few", "many"])
@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_with_a_damaged_file_is_measured_and_trained_on(name, numbers, quick, tmp_path, capsys):
    video(tmp_path / "clip.mp4")
    write_miniature(name, tmp_path / "set", [tmp_path / "clip.mp4"])
    tables = [path for path in sorted((tmp_path / "set").rglob("*")) if path.is_file() and path.suffix != ".mp4"]
    write_json(tmp_path / "training.json", TRAINING | {"data": [{"name": name, "folder": "set"}]})
    lines = [
        (evaluate_judge.main, ["--judge", "nowhere", "--benchmark", name, "--data", "set", "--output", "out"]),
        (train_reward_model.main, ["--config", "training.json", "--model", "nowhere", "--output", "out"]),
    ]
    for number in numbers:
        path, rng = tables[number % len(tables)], np.random.default_rng([number, *name.encode()])
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng, [b"[]", b"{}", yaml.safe_dump(RECIPE).encode()]))
        for line in lines:
            assert wrong(line, capsys) is None, (path.name, number)
        path.write_bytes(content)


SETTINGS = (
    b"rounds: [2]\n",
    b"- a\n- b\n",
    b"{",
    b"\x00\x01\x02\xff",
    b"",
    b"null",
    b"3",
    b"a: &a [*a]\n",
    b"? [1]\n: 2\n",
)


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("main", "settings"),
    [
        (united_finetune.main, RECIPE), (train_generator.main, DPO), (train_reward_model.main, TRAINING),
        (sample.main, {"generator": "g", "prompts": "p", "output": "o", "sampler": {}, "seed": 0, "limit": 1}),
        (evaluate_judge.main, {"judge": "j", "benchmark": "lsvq", "data": "d", "output": "o", "arguments": {"a": 1}}),
        (evaluate_vbench.main, {"videos": "v", "output": "o", "dimensions": ["scene"], "sampler": {"fps": 8}}),
    ],
    ids=lambda value: value.__module__.split(".")[-1] if callable(value) else "",
)  # fmt: skip
def test_settings_of_every_type(main, settings, step, quick, tmp_path, capsys):
    """Each value in turn as a list, a mapping, a text, a number, nothing; a key that is none; no mapping at all."""
    path = tmp_path / "settings.yaml"
    changed = [
        settings | {name: value}
        for name in settings
        for value in ([1, "a"], {"a": 1}, "many", -1.5, None, True, [], {}, "")
    ]
    texts = [
        yaml.safe_dump(each).encode() for each in [*changed[::step], settings | {"nonsense": 1}, settings | {1: 2}]
    ]
    for text in [*texts, *SETTINGS]:
        path.write_bytes(text)
        assert wrong((main, ["--config", str(path)]), capsys) is None, text
        for left in ("run", "out", "o"):
            shutil.rmtree(tmp_path / left, ignore_errors=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return Path(shutil.copytree(OLD, tmp_path_factory.mktemp("old") / "run"))


RECORDS = (".json", ".jsonl", ".parquet", ".yaml")


@pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_with_a_damaged_file_is_reported(times, run, capsys, monkeypatch):
    files = [path for path in sorted(run.rglob("*")) if path.suffix in RECORDS and "adapter" not in path.parts]
    if times == 1:
        # What is said of the numbers is made all the same.
        monkeypatch.setattr("pipelines.report.charts._svg", lambda *_: "<svg>")
        monkeypatch.setattr("pipelines.report.shelf.animated", lambda *_, **__: b"")
        files = files[::4]
    for number, path in enumerate(files * times):
        content, rng = path.read_bytes(), np.random.default_rng([number, *str(path.relative_to(run)).encode()])
        path.write_bytes(damaged(content, rng, [b"[]", b"{}", b"null"]))
        assert wrong((report, [str(run)]), capsys) is None, (path.relative_to(run), number)
        path.write_bytes(content)
        (run / "report.html").unlink(missing_ok=True)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("turn", ["sample 1", "refresh 1", "rank 1", "align 1", "score 0"])
def test_a_phase_of_a_run_with_a_damaged_file(turn, step, run, capsys, monkeypatch):
    """As far as it comes without its work, which is left out."""
    name, number = turn.split()
    monkeypatch.chdir(OLD.parents[2])
    monkeypatch.setattr("pipelines.loop.run.Run.base_generator", lambda *_, **__: sys.exit(1))
    monkeypatch.setattr("pipelines.loop.run.Run.load_judge", lambda *_, **__: Sayer())
    done = run / ("score" if name == "score" else f"round_0{number}/{name}") / "done.json"
    kept = done.read_bytes()
    files = [file for place in ("*", "round_0?/*/*") for file in sorted(run.glob(place)) if file.suffix in RECORDS]
    for attempt, file in list(enumerate(files))[len(turn) % step :: step]:
        content, rng = file.read_bytes(), np.random.default_rng([attempt, *turn.encode()])
        done.unlink(missing_ok=True)
        file.write_bytes(damaged(content, rng, [b"[]", b"{}", b"null"]))
        line = (phase.main, [name, "--run_dir", str(run), "--round", number])
        assert wrong(line, capsys) is None, (file.relative_to(run), attempt)
        file.write_bytes(content)
        done.write_bytes(kept)


def test_a_folder_of_videos_with_a_damaged_list_is_scored(quick, tmp_path, capsys, monkeypatch):
    package = tmp_path / "environments" / "standard" / "lib" / "python3.11" / "site-packages" / "vbench"
    package.mkdir(parents=True)
    rows = [{"prompt_en": "a red circle", "dimension": ["temporal_flickering"]}]
    for name in ("a-0.mp4", "a-1.mp4"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        video(tmp_path / "videos" / name)
    files = {
        tmp_path / "videos" / "videos.csv": b"video,prompt,index\na-0.mp4,a red circle,0\na-1.mp4,a red circle,1\n",
        tmp_path / "videos" / "a-0.mp4": (tmp_path / "videos" / "a-0.mp4").read_bytes(),
        package / "VBench_full_info.json": json.dumps(rows).encode(),
    }
    for path, content in files.items():
        path.write_bytes(content)
    for path, content in files.items():
        for number in range(8):
            rng = np.random.default_rng([number, *path.name.encode()])
            path.write_bytes(damaged(content, rng, [b"[]", b"{}", b"null"]))
            asked = ["--videos", "videos", "--output", "out", "--dimensions", "[temporal_flickering]"]
            assert wrong((evaluate_vbench.main, asked), capsys) is None, (path.name, number)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        path.write_bytes(content)
