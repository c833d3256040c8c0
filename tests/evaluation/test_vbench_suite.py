"""The prompt suite: official counts and names, odd characters, names that a file system refuses."""

import os
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.vbench import suite as vbench_suite
from evaluation.vbench.environment import suite_path
from evaluation.vbench.suite import (
    OFFICIAL_PROMPTS,
    SuiteVideo,
    VideoFile,
    is_official,
    names_on_disk,
    read_folder,
    read_suite,
    select,
    suite_videos,
    write_index,
)  # fmt: skip
from videoduet.errors import InputError


def check_official_numbers(rows):
    assert is_official(rows)
    videos = suite_videos(rows)
    assert len(rows) == 946 and len({video.prompt for video in videos}) == 944
    assert len(videos) == len(set(videos)) == 869 * 5 + 75 * 25
    assert len([video for video in videos if video.index < 5]) == 4720
    for name, prompts in OFFICIAL_PROMPTS.items():
        count = Counter(video.prompt for row in select(rows, [name]) for video in suite_videos([row]))
        assert len(count) == prompts and set(count.values()) == {25 if name == "temporal_flickering" else 5}


def test_official_counts(suite_file):
    rows = read_suite(suite_file)
    check_official_numbers(rows)
    assert not is_official(rows[1:]) and not is_official(select(rows, ["scene"]))


@pytest.mark.skipif(not suite_path().exists(), reason="VBench's suite is not here (pipelines.setup_vbench)")
def test_the_real_suite(tmp_path):
    rows = read_suite(suite_path())
    check_official_numbers(rows)
    names = [video.name for video in suite_videos(rows)]
    assert "A person is riding a bike-4.mp4" in names and "In a still frame, a stop sign-24.mp4" in names
    assert any("façades" in name for name in names)
    assert [row.auxiliary_info for row in rows if row.prompt == "a red bicycle"] == [{"color": {"color": "red"}}]
    assert names_on_disk(names, tmp_path) == {name: name for name in names}


def test_a_video_is_called_as_the_package_expects():
    assert SuiteVideo("it's (3d), v1.0.", 3).name == "it's (3d), v1.0.-3.mp4"


def test_a_subset_is_nested_and_shared_and_knows_no_order(suite_file):
    rows = read_suite(suite_file)
    quality = ["subject_consistency", "motion_smoothness", "scene"]
    small, large = select(rows, quality, 4, seed=1), select(rows, quality, 9, seed=1)
    assert {row.prompt for row in small} < {row.prompt for row in large}
    assert len(small) == 8, "two dimensions share their prompts"
    assert {row.prompt for row in select(rows[::-1], quality, 4, seed=1)} == {row.prompt for row in small}
    assert {row.prompt for row in select(rows, quality, 4, seed=2)} != {row.prompt for row in small}
    assert all(set(row.dimensions) <= set(quality) for row in large)


def test_odd_names_are_found_again(suite_file, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    wanted = suite_videos(read_suite(suite_file))
    for video in wanted:
        (folder / video.name).touch()
    (folder / "notes.txt").touch()
    files, others = read_folder(folder)
    assert {(file.prompt, file.index) for file in files} == {(video.prompt, video.index) for video in wanted}
    assert others == ["notes.txt"]


def test_refused_names_are_mapped_and_found_again(tmp_path):
    videos = [SuiteVideo(text, 0) for text in ("either/or", "long " * 60, "fine.", "..", "nul\0", "ç" * 130)]
    names = names_on_disk([video.name for video in videos], tmp_path)
    assert names["fine.-0.mp4"] == "fine.-0.mp4" and len(set(names.values())) == len(videos)
    for video in videos:
        (tmp_path / names[video.name]).touch()
    write_index(tmp_path, [VideoFile(tmp_path / names[video.name], video.prompt, video.index) for video in videos[:4]])
    files, _ = read_folder(tmp_path)
    assert {file.prompt: file.path.name for file in files} == {v.prompt: names[v.name] for v in videos[:4]}


def test_names_that_a_file_system_takes_for_one(tmp_path, monkeypatch):
    composed, decomposed = (unicodedata.normalize(form, "façades-0.mp4") for form in ("NFC", "NFD"))
    names = ["A fantasy landscape-0.mp4", "a fantasy landscape-0.mp4", composed, decomposed]
    assert list(names_on_disk(names, tmp_path).values()) == names
    monkeypatch.setattr(vbench_suite, "_merges_names", lambda directory: True)
    mapped = names_on_disk(names, tmp_path)
    assert [name == file for name, file in mapped.items()] == [True, False, True, False]
    assert len({file.casefold() for file in mapped.values()}) == 4
    assert not os.listdir(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1, max_size=300), st.integers(0, 99))
def test_any_prompt_gets_a_name_of_one_component(tmp_path_factory, text, index):
    folder = tmp_path_factory.getbasetemp()
    name = SuiteVideo(text, index).name
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return
    file = names_on_disk([name], folder)[name]
    (folder / file).touch()
    assert (folder / file).parent == folder and file.endswith(".mp4")
    (folder / file).unlink()


def test_bad_suites_and_folders(tmp_path):
    with pytest.raises(InputError, match="does not exist; run: python -m pipelines.setup_vbench"):
        read_suite(tmp_path / "none.json")
    for number, text in enumerate(("{", "[1]", '[{"prompt_en": "a"}]', '[{"prompt_en": "a", "dimension": ["sceen"]}]')):
        (tmp_path / f"{number}.json").write_text(text)
        with pytest.raises(InputError, match="is no suite|sceen"):
            read_suite(tmp_path / f"{number}.json")
    with pytest.raises(InputError, match="does not exist"):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match="holds no mp4 file"):
        read_folder(tmp_path)
    (tmp_path / "videos.csv").write_text("video,text\na.mp4,a\n")
    with pytest.raises(InputError, match="needs the columns video, prompt and index"):
        read_folder(tmp_path)


def test_a_list_as_a_spreadsheet_writes_it(tmp_path):
    text = 'video,prompt,index\r\na.MP4,"a cat\u2028running,\nfast",0\r\n'
    (tmp_path / "videos.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_folder(tmp_path)[0] == [VideoFile(tmp_path / "a.MP4", "a cat\u2028running,\nfast", 0)]
    (tmp_path / "videos.csv").write_text("video,prompt,index\na.mp4,a cat, running,0\n")
    with pytest.raises(InputError, match="row 1 has 4 fields, not 3"):
        read_folder(tmp_path)


def test_file_names(tmp_path):
    (tmp_path / "a cat-3.MP4").touch()
    assert read_folder(tmp_path)[0] == [VideoFile(tmp_path / "a cat-3.MP4", "a cat", 3)]
    (tmp_path / "caf\udce9-0.mp4").touch()
    with pytest.raises(InputError, match=r"caf\\udce9-0.mp4' is no UTF-8"):
        read_folder(tmp_path)
