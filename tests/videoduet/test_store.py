"""The atomic store: a file is whole or it is not there, and a record comes back equal."""

import json
import math
import os
from dataclasses import dataclass

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from videoduet import records, store
from videoduet.records import (
    Comparison,
    DimensionScore,
    LabelledPair,
    OrderVerdict,
    PreferencePair,
    Prompt,
    Ranking,
    Sample,
    SamplerSettings,
    Video,
    VideoDescription,
    VideoPair,
    VideoScore,
)

PROMPT = Prompt.of("a <b>red</b> circle, “quoted”\nand 红色", source="p.txt")
A, B = Video(id="a", path="x/a.mp4"), Video(id="b", path="/abs/ü b.mp4")
SETTINGS = SamplerSettings(steps=4, guidance_scale=7.5, fps=8.0, num_frames=8, height=32, width=48)
FIRST, SECOND = (OrderVerdict(text="<answer>1</answer>", verdict=name, p=0.1 + 0.2) for name in ("first", "second"))
SILENT = OrderVerdict(text="", verdict=None)
RANKING = Ranking(
    prompt_id="p",
    video_ids=("a", "b"),
    wins=(1.5, 0.5),
    ties=(1, 1),
    comparisons=(2, 2),
    strengths=(1 / 3, -1 / 3),
    intervals=((-1.0, 1e-300), (0.1, 2.0)),
    transitivity=None,
    agreement=None,
    first_position_rate=0.5,
    unparsable=3,
)
EXAMPLES = {
    Prompt: [PROMPT, Prompt.of("")],
    Video: [A, B],
    SamplerSettings: [SETTINGS],
    OrderVerdict: [FIRST, SILENT],
    VideoPair: [VideoPair(prompt=PROMPT, first=A, second=B)],
    LabelledPair: [LabelledPair(prompt=PROMPT, first=A, second=B, preferred="second", source="within 1")],
    Sample: [
        Sample(
            id="a",
            prompt_id="p",
            index=2,
            seed=2**63 - 1,
            generator="G_0",
            round=0,
            settings=SETTINGS,
            video_path="v.mp4",
            latents_path="l.safetensors",
            index_in_shard=7,
        )
    ],
    Comparison: [
        Comparison.of(VideoPair(prompt=PROMPT, first=A, second=B), "judge", FIRST, SECOND, 0.75),
        Comparison.of(VideoPair(prompt=PROMPT, first=B, second=A), "judge", SILENT),
    ],
    DimensionScore: [DimensionScore(name="spatial", value=0.1 + 0.2)],
    VideoScore: [
        VideoScore(video_id="a", prompt_id="p", judge_id="j", text="{}", score=score, dimensions=dimensions)
        for score, dimensions in (
            (None, ()),
            (0.5, (DimensionScore(name="b", value=0.0), DimensionScore(name="a", value=1.0))),
        )
    ],
    VideoDescription: [
        VideoDescription(video_id="a", prompt_id="p", judge_id="j", text="<think></think>红", description="红")
    ],
    Ranking: [RANKING],
    PreferencePair: [
        PreferencePair(
            prompt_id="p",
            chosen_id="a",
            rejected_id="b",
            chosen_round=1,
            rejected_round=0,
            margin=0.5,
            agreement=1.0,
            comparison_ids=ids,
        )
        for ids in (("c", "d"), ())
    ],
}


def test_every_record_type_has_an_example():
    classes = [thing for thing in vars(records).values() if isinstance(thing, type)]
    assert {thing for thing in classes if thing.__module__ == records.__name__} == set(EXAMPLES)


@pytest.mark.parametrize("record_type", EXAMPLES, ids=lambda record_type: record_type.__name__)
def test_records_come_back_equal(tmp_path, record_type):
    examples = EXAMPLES[record_type]
    for number, path in enumerate((tmp_path / "one.parquet", tmp_path / "two.parquet")):
        store.write_records(path, examples[number:], record_type)
    back = store.read_records(record_type, tmp_path / "two.parquet", tmp_path / "one.parquet")
    assert back == [*examples[1:], *examples]
    assert list(map(hash, back)) == [*map(hash, examples[1:]), *map(hash, examples)]  # tuples, not lists


def test_no_records_keep_their_columns(tmp_path):
    store.write_records(tmp_path / "none.parquet", [], PreferencePair)
    assert store.read_records(PreferencePair, tmp_path / "none.parquet") == []
    assert "chosen_id" in pq.read_schema(tmp_path / "none.parquet").names
    assert store.read_records(PreferencePair) == []


def test_the_same_records_make_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        store.write_records(tmp_path / name, EXAMPLES[Comparison], Comparison)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@dataclass(frozen=True, kw_only=True)
class Everything:
    flag: bool
    maybe: float | None
    inner: OrderVerdict | None
    pairs: tuple[tuple[float, float], ...]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Everything,
            flag=st.booleans(),
            maybe=st.none() | st.floats(allow_nan=False),
            inner=st.none() | st.builds(OrderVerdict, text=st.text(), verdict=st.none() | st.just("tie"), p=st.none()),
            pairs=st.lists(st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)), max_size=3).map(tuple),
        ),
        max_size=5,
    )
)
def test_any_plain_record_comes_back_equal(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "rows.parquet"
    store.write_records(path, rows, Everything)
    assert store.read_records(Everything, path) == rows


def test_a_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file.json"
    store.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="half"), store.atomic_path(path) as temporary:
        temporary.write_text('{"new"')
        raise RuntimeError("half way")
    assert store.read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_failing_writer_of_a_directory_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    with store.atomic_path(path) as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "sub" / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), store.atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("new")
        raise KeyboardInterrupt
    assert (path / "sub" / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    for name in ("one", "two"):
        with store.atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert os.listdir(tmp_path / "model") == ["two"]


def test_nothing_is_there_before_the_writer_is_done(tmp_path):
    path = tmp_path / "deep" / "file.mp4"
    with store.atomic_path(path) as temporary:
        assert temporary.suffix == ".mp4"  # writers that look at the suffix are not misled
        temporary.write_bytes(b"x")
        assert not path.exists()
    assert path.read_bytes() == b"x"


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), real_fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (order.append("rename"), real_replace(old, new))[1])
    store.write_bytes(tmp_path / "file", b"x")
    assert order == ["fsync", "rename", "fsync"]  # the file, its new name, the directory that holds the name


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    store.write_bytes(tmp_path / "file", b"old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        store.write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_holds_no_nan(tmp_path):
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], "c": (1, None), 3: {"d": float("nan")}, "é": True}
    store.write_json(tmp_path / "file.json", value)
    strict = json.loads((tmp_path / "file.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert strict == {"a": None, "b": [None, None, 1.5], "c": [1, None], "3": {"d": None}, "é": True}


def test_tensors_come_back_equal_though_they_lay_scattered(tmp_path):
    tensors = {"view": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)}
    store.write_tensors(tmp_path / "t.safetensors", tensors)
    back = load_file(tmp_path / "t.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_content_hash_is_of_the_bytes_alone(tmp_path):
    for name, data in (("a", b"video"), ("b.mp4", b"video"), ("c", b"videp")):
        (tmp_path / name).write_bytes(data)
    one, two, other = (store.content_hash(tmp_path / name) for name in ("a", "b.mp4", "c"))
    assert one == two == "0cab1c9617404faf" and one != other
