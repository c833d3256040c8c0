"""Prompts of any Unicode go through every pair of writer and reader, and come back as they were."""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment.preferences.stored import StoredPair, read_preferences, write_preferences
from evaluation.vbench.suite import VideoFile, read_folder, write_index
from pipelines.report.judgements_text import print_csv, print_json_lines
from reward_model.judging.listed import read_list, read_pairs
from reward_model.training.refresh import read_labelled_pairs
from videoduet.prompt_sets import read_prompts
from videoduet.records import Prompt
from videoduet.store import read_records, write_records
from videoduet.tables import json_line

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
CUTS = st.sampled_from([*"\u2028\u2029\x85\x0b\x0c\x1c\x1e\r\n\t\ufeff", '"', ","])
"""What cuts lines and fields somewhere."""
TEXTS = st.lists(
    st.lists(st.text(max_size=6) | CUTS | st.just("x"), min_size=1, max_size=6).map("".join).filter(str.strip),
    min_size=1,
    max_size=4,
    unique_by=str.strip,
)
Rows = list[dict[str, str]]


def separated(path: Path, rows: Rows, mark: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=mark)
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, Rows], object]] = {
    ".csv": lambda path, rows: separated(path, rows, ","),
    ".TSV": lambda path, rows: separated(path, rows, "\t"),
    ".json": lambda path, rows: path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8"),
    ".jsonl": lambda path, rows: path.write_bytes(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    ),
    ".ndjson": lambda path, rows: path.write_text("".join(map(json_line, rows)), encoding="utf-8"),
    ".parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Two videos, and a place for tables beside them."""
    path = tmp_path_factory.mktemp("any")
    for name in "ab":
        (path / f"{name}.mp4").write_text(name)
    return path


def said(write: Callable[[Rows], None], rows: Rows, path: Path) -> None:
    """What the judge's command prints, kept in a file as a shell does."""
    with redirect_stdout(io.StringIO(newline="")) as out:
        write(rows)
    path.write_bytes(out.getvalue().encode())


@pytest.mark.parametrize("suffix", WRITERS)
@SOME
@given(TEXTS)
def test_prompts(suffix, folder, texts):
    path = folder / f"prompts{suffix}"
    WRITERS[suffix](path, [{"id": str(number), "prompt": text} for number, text in enumerate(texts)])
    assert [prompt.text for prompt in read_prompts(path).prompts] == [text.strip() for text in texts]


@SOME
@given(TEXTS)
def test_prompts_one_a_line(folder, texts):
    texts = list(dict.fromkeys(text for text in ("".join(t.split("\n")).strip() for t in texts) if text))
    path = folder / "prompts.txt"
    path.write_bytes("".join(text + "\n" for text in ["first", *texts]).encode())
    assert [prompt.text for prompt in read_prompts(path).prompts] == list(dict.fromkeys(["first", *texts]))


@SOME
@given(TEXTS)
def test_prompts_as_records(folder, texts):
    prompts = [Prompt.of(text) for text in texts]
    write_records(folder / "records.parquet", prompts, Prompt)
    assert read_records(Prompt, folder / "records.parquet") == prompts


@pytest.mark.parametrize("suffix", WRITERS)
@SOME
@given(TEXTS)
def test_judged_lists(suffix, folder, texts):
    rows = [{"first": "a.mp4", "second": "b.mp4", "prompt": text} for text in texts]
    path = folder / f"pairs{suffix}"
    WRITERS[suffix](path, rows)
    assert [row[2] for row in read_pairs([], str(path), "")] == texts


@pytest.mark.parametrize(("write", "suffix"), [(print_csv, ".csv"), (print_json_lines, ".jsonl")])
@SOME
@given(TEXTS)
def test_what_the_judge_prints_is_a_list(write, suffix, folder, texts):
    path = folder / f"printed{suffix}"
    said(write, [{"prompt": text, "video": "a.mp4"} for text in texts], path)
    assert [row["prompt"] for row in read_list(path, ("video", "prompt"))] == texts


@pytest.mark.parametrize("suffix", WRITERS)
@SOME
@given(TEXTS)
def test_preferences(suffix, folder, texts):
    path = folder / f"preferences{suffix}"
    WRITERS[suffix](path, [{"caption": text, "chosen": "a.mp4", "rejected": "b.mp4"} for text in texts])
    pairs = [StoredPair(text, folder / "a.mp4", folder / "b.mp4") for text in texts]
    assert read_preferences(str(path), folder / "unused") == (pairs, [])
    write_preferences(folder / "again.jsonl", pairs)
    assert read_preferences(str(folder / "again.jsonl"), folder / "unused") == (pairs, [])


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
@SOME
@given(TEXTS)
def test_labelled_pairs(suffix, folder, texts):
    path = folder / f"labelled{suffix}"
    WRITERS[suffix](path, [{"prompt": t, "first": "a.mp4", "second": "b.mp4", "preferred": "first"} for t in texts])
    assert [pair.prompt.text for pair in read_labelled_pairs(path)] == texts


@SOME
@given(TEXTS)
def test_folders_of_videos(texts):
    with tempfile.TemporaryDirectory() as name:
        files = [VideoFile(Path(name) / "a.mp4", text, number) for number, text in enumerate(texts)]
        write_index(Path(name), files)
        assert sorted(read_folder(name)[0], key=lambda file: file.index) == files
