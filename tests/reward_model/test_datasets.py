"""Readers of public data sets on miniatures in their real formats: what is read, what is missing, what is refused."""

from pathlib import Path

import pytest
from miniature import (
    MINIATURES,
    PERCENT,
    PROMPTS,
    SCORES,
    VIDEOS,
    aigvqa_as_released,
    genai_official,
    lsvq_dover,
    place,
    write_csv,
    write_jsonl,
    write_miniature,
)
from small_judge import SCENES

from reward_model.datasets import DATASETS, Item, PreferenceItem, QuestionItem, ScoredClip, read_dataset
from reward_model.datasets.files import MediaFolder, Row, Scores
from shapes_world.world import FPS, render
from videoduet.errors import InputError
from videoduet.video import write_video


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    for index, scene in enumerate(SCENES[:2]):
        write_video(folder / f"{index}.mp4", render(scene.prompt, index)[:4], FPS)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clips) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {name: write_miniature(name, root / name, clips) for name in MINIATURES}


def paths_of(item: Item) -> tuple[str, ...]:
    if isinstance(item, QuestionItem):
        return item.paths
    return (item.first, item.second) if isinstance(item, PreferenceItem) else (item.path,)


def whole(name: str) -> str:
    return (DATASETS[name].splits or ("all",))[0]


def test_every_data_set_has_a_miniature_and_a_line_in_the_docs():
    assert MINIATURES.keys() == DATASETS.keys()
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert [name for name in DATASETS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_there_is_read(folders, name):
    reading = read_dataset(name, folders[name], whole(name))
    kinds = {"score": ScoredClip, "dimensions": ScoredClip, "preference": PreferenceItem, "question": QuestionItem}
    assert reading.items and all(type(item) is kinds[DATASETS[name].task] for item in reading.items)
    assert not reading.missing
    for item in reading.items:
        paths = getattr(item, "paths", None) or [
            getattr(item, a) for a in ("path", "first", "second") if hasattr(item, a)
        ]
        assert all(Path(path).is_file() for path in paths)
        if isinstance(item, ScoredClip):
            low, high = reading.scale
            assert all(low <= score <= high for score in item.scores.values())
            assert (len(item.scores) > 1) == (DATASETS[name].task == "dimensions")
        if isinstance(item, QuestionItem):
            assert item.answer in item.options
    assert f"{len(reading.items)} items" in reading.summary()


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_video_costs_its_rows(folders, tmp_path, clips, name):
    folder = write_miniature(name, tmp_path / name, clips)
    before = read_dataset(name, folder, whole(name))
    gone = Path(paths_of(before.items[0])[0])
    gone.unlink()
    after = read_dataset(name, folder, whole(name))
    assert 0 < len(after.items) < len(before.items)
    assert after.missing and all(gone.stem in row for row in after.missing)
    assert f"{len(after.missing)} rows without their video" in after.summary()


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_with_videos_alone_is_refused(folders, tmp_path, clips, name):
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(InputError, match="docs/datasets.md"):
        read_dataset(name, folder, whole(name))


def test_scores_are_the_published_ones(folders):
    by_name = {Path(item.path).stem: item.scores for item in read_dataset("konvid_1k", folders["konvid_1k"]).items}
    assert by_name == {str(2000 + index): {"overall": SCORES[index]} for index in range(VIDEOS)}
    item = read_dataset("lgvq", folders["lgvq"]).items[2]
    assert item.scores == {"spatial": PERCENT[2], "temporal": PERCENT[-3], "consistency": 52.0}
    assert item.prompt == PROMPTS[2]
    assert read_dataset("live_vqc", folders["live_vqc"]).items[3].scores == {"overall": PERCENT[3]}
    waterloo = read_dataset("waterloo_ivc_4k", folders["waterloo_ivc_4k"]).items
    assert (Path(waterloo[4].path).name, waterloo[4].scores) == ("HEVC_2_540p_1.mp4", {"overall": PERCENT[4]})
    finevd = read_dataset("finevd_scores", folders["finevd_scores"], "test").items
    assert [item.scores["overall"] for item in finevd] == list(PERCENT[8:])
    aigvqa = read_dataset("aigvqa_db", folders["aigvqa_db"])
    assert aigvqa.items[1].scores["alignment"] == PERCENT[1] + 3
    assert (len(aigvqa.items), sum(aigvqa.left_out.values())) == (VIDEOS - 1, 1)


def test_preferences_are_the_published_ones(folders):
    labels = [item.preferred for item in read_dataset("genai_bench", folders["genai_bench"], "test").items[:4]]
    assert [label["overall"] for label in labels] == ["first", "second", "tie", "tie"]
    reading = read_dataset("videogen_reward_bench", folders["videogen_reward_bench"], "test")
    assert reading.items[0].preferred == {"overall": "first", "visual": "second", "motion": "first"}
    assert (len(reading.items), sum(reading.left_out.values())) == (6, 2)
    pairs = read_dataset("vision_reward_pairs", folders["vision_reward_pairs"]).items
    assert [pair.preferred["overall"] for pair in pairs[:3]] == ["first", "second", "tie"]
    assert len(read_dataset("monetbench", folders["monetbench"], "test").items) == 6


def test_aigvqa_db_as_released(tmp_path, clips):
    """Models share the names of their videos, and the files make a split."""
    aigvqa_as_released(tmp_path, clips)
    whole = read_dataset("aigvqa_db", tmp_path).items
    assert len({item.path for item in whole}) == len(whole) == 10
    first = {f"{Path(item.path).parent.name}/{Path(item.path).stem}": item for item in whole}["Gen-2/100001"]
    assert first.scores == {
        "static quality": PERCENT[6] + 1, "temporal smoothness": PERCENT[6] + 2, "dynamic degree": PERCENT[6] + 3,
        "text-video correspondence": PERCENT[6] + 4,
    }  # fmt: skip
    assert first.prompt == PROMPTS[1]
    assert {split: len(read_dataset("aigvqa_db", tmp_path, split).items) for split in ("train", "test")} == {
        "train": 8, "test": 2,
    }  # fmt: skip
    (tmp_path / "floor33" / "100001.mp4").unlink()
    reading = read_dataset("aigvqa_db", tmp_path)
    assert len(reading.items) == 9 and reading.missing[0].endswith("floor33/100001.mp4"), "not another model's"


def test_pairs_of_aigvqa_db(folders, tmp_path, clips):
    items = read_dataset("aigvqa_pairs", folders["aigvqa_pairs"]).items
    assert [item.preferred for item in items[:4]] == [
        {"static quality": "first", "temporal smoothness": "second"},
        {"static quality": "second", "temporal smoothness": "tie"},
        {"static quality": "tie", "temporal smoothness": "first"}, {"temporal smoothness": "second"},
    ]  # fmt: skip
    assert (Path(items[0].first).parent.name, Path(items[0].second).parent.name) == ("Lavie", "Gen-2")
    write_csv(tmp_path / "pairs.csv", ("first", "second", "static quality"), [["0.mp4", "1.mp4", "left"]])
    with pytest.raises(InputError, match="row 1: static quality is 'left', not first, second or tie"):
        read_dataset("aigvqa_pairs", tmp_path)


def test_fetv_is_the_mean_of_three(folders, tmp_path, clips):
    items = read_dataset("fetv", folders["fetv"]).items
    assert len(items) == 10 and {Path(item.path).parts[-3] for item in items} == {"cogvideo", "modelscope-t2v"}
    assert items[0].scores == {"static": 2, "temporal": 2, "alignment": 5} and items[0].prompt == PROMPTS[0]
    folder = write_miniature("fetv", tmp_path, clips)
    (folder / "fetv_data.json").write_text('{"prompt": "one"}\n')
    with pytest.raises(InputError, match="there is no prompt 1"):
        read_dataset("fetv", folder)
    (folder / "manual_eval_results" / "human0" / "manual_eval_results_cogvideo.json").write_text('{"0": {}}\n')
    with pytest.raises(InputError, match="line 1: there is no static_quality"):
        read_dataset("fetv", folder)


def test_gaia_knows_its_prompts(folders):
    items = read_dataset("gaia", folders["gaia"]).items
    assert [item.prompt for item in items] == ["A man, roped, abseils.", "He jumps."] * 2
    assert items[1].scores == {"subject": 49.0098, "completeness": 46.9289, "interaction": PERCENT[1]}


def test_a_model_of_gaias_may_have_underscores(tmp_path, clips):
    folder = write_miniature("gaia", tmp_path, clips)
    (folder / "videos" / "zeroScope_High Jump.mp4").rename(folder / "videos" / "zero_scope_v2_High_Jump.mp4")
    table = folder / "MOS.csv"
    table.write_text(table.read_text().replace("zeroScope_High Jump", "zero_scope_v2_High_Jump"))
    assert read_dataset("gaia", folder).items[3].prompt == "He jumps."
    (folder / "prompts_all.csv").unlink()
    assert read_dataset("gaia", folder).items[3].prompt == "scope_v2_High_Jump", "nobody can tell"


@pytest.mark.parametrize("form", ["column", "files"])
def test_lgvq_by_its_own_split(tmp_path, clips, form):
    folder = write_miniature("lgvq", tmp_path, clips)
    header, *lines = (folder / "MOS.csv").read_text().splitlines()
    if form == "column":
        told = [f"{line},{'test' if number == 3 else 'train'}" for number, line in enumerate(lines)]
        (folder / "MOS.csv").write_text("\n".join([f"{header},split", *told]))
    else:
        (folder / "test.csv").write_text("\n".join([header, lines[3]]))
        (folder / "train.csv").write_text("\n".join([header, *lines[:3], *lines[4:]]))
    (item,) = read_dataset("lgvq", folder, "test").items
    assert item.prompt == PROMPTS[3] and len(read_dataset("lgvq", folder, "train").items) == VIDEOS - 1
    if form == "column":
        (folder / "MOS.csv").write_text("\n".join([f"{header},split", f"{lines[0]},dev"]))
        with pytest.raises(InputError, match="row 1: split is 'dev'"):
            read_dataset("lgvq", folder, "test")


def test_genai_bench_as_its_authors_publish_it(tmp_path, clips):
    genai_official(tmp_path, clips)
    items = read_dataset("genai_bench", tmp_path, "test").items
    assert [(Path(i.first).name, Path(i.second).name, i.preferred["overall"]) for i in items[:2]] == [
        ("0.mp4", "1.mp4", "first"), ("1.mp4", "2.mp4", "second"),
    ]  # fmt: skip


def test_questions_are_the_published_ones(folders):
    checks = read_dataset("vision_reward_questions", folders["vision_reward_questions"]).items
    assert len(checks) == 2 * VIDEOS + VIDEOS // 2, "only what the mask lets count"
    assert [(item.question, item.answer) for item in checks[:2]] == [
        ("Is the video smooth?", "no"), (f"Does it show {PROMPTS[0]}?", "yes"),
    ]  # fmt: skip
    finevd = read_dataset("finevd", folders["finevd"], "test").items
    assert {item.kind for item in finevd} == {"color", "noise", "artifact", "blur", "temporal"}
    reading = read_dataset("q_bench_video", folders["q_bench_video"], "test")
    assert [(item.answer, item.options) for item in reading.items] == [
        ("B", ("A", "B")), ("C", ("A", "B", "C", "D")), ("A", ("A", "B")),
    ]  # fmt: skip
    assert [Path(path).name for path in reading.items[2].paths] == ["2.mp4", "3.mp4"]
    assert "C. Colour" in reading.items[1].question and sum(reading.left_out.values()) == 1


def test_published_splits(folders):
    counts = {split: len(read_dataset("koniq_10k", folders["koniq_10k"], split).items)
              for split in ("train", "validation", "test", "all")}  # fmt: skip
    assert counts == {"train": 6, "validation": 2, "test": 2, "all": 10}
    lsvq = {split: read_dataset("lsvq", folders["lsvq"], split).items for split in ("train", "test", "test_1080p")}
    assert {split: len(items) for split, items in lsvq.items()} == {"train": 7, "test": 3, "test_1080p": 2}
    paths = [item.path for item in (*lsvq["train"], *lsvq["test"])]
    assert len(set(paths)) == VIDEOS, "files of one name in two folders stay apart"
    assert len(read_dataset("video_feedback", folders["video_feedback"], "train").items) == 8


def test_lsvq_with_the_labels_of_dover(tmp_path, clips):
    lsvq_dover(tmp_path, clips)
    counts = {s: len(read_dataset("lsvq", tmp_path, s).items) for s in ("train", "test", "test_1080p")}
    assert counts == {"train": 7, "test": 3, "test_1080p": 2}
    assert read_dataset("lsvq", tmp_path, "test").items[0].scores == {"overall": PERCENT[7]}


def test_splits_made_here_do_not_share_prompts(folders):
    parts = {split: read_dataset("t2vqa_db", folders["t2vqa_db"], split).items for split in ("train", "test", "all")}
    assert len(parts["train"]) + len(parts["test"]) == len(parts["all"])
    assert not {i.prompt for i in parts["train"]} & {i.prompt for i in parts["test"]}
    assert parts["train"] == read_dataset("t2vqa_db", folders["t2vqa_db"], "train").items


@pytest.mark.parametrize(
    ("name", "file", "columns", "row", "split", "says"),
    [
        ("lsvq", "labels_train_test.csv", ("name", "mos"), ["yfcc-batch1/4000", 3], "train", "is_test"),
        ("konvid_1k", "KoNViD_1k_mos.csv", ("id", "mos"), [2000, 3], "all", "flickr_id"),
        ("konvid_1k", "KoNViD_1k_mos.csv", ("flickr_id", "mos"), [2000, "good"], "all", "mos is 'good'"),
        ("lgvq", "MOS.csv", ("video", "prompt", "spatial", "temporal"), ["0.mp4", "x", 1, 2], "all", "alignment"),
        ("videogen_reward_bench", "b.csv", ("path_A", "path_B", "prompt"), ["0.mp4", "1.mp4", "x"], "test", "Overall"),
    ],
)  # fmt: skip
def test_a_missing_column_or_a_wrong_value_is_named(tmp_path, name, file, columns, row, split, says):
    write_csv(tmp_path / file, columns, [row])
    with pytest.raises(InputError, match=says) as error:
        read_dataset(name, tmp_path, split)
    assert file in str(error.value)


@pytest.mark.parametrize(
    ("name", "split", "says"),
    [("lsqv", "train", "no data set 'lsqv'"), ("lsvq", "validation", "has no split"),
     ("konvid_1k", "test_1080p", "split"), ("monetbench", "train", "split")],
)  # fmt: skip
def test_wrong_names_are_refused(folders, name, split, says):
    with pytest.raises(InputError, match=says) as error:
        read_dataset(name, folders.get(name, folders["lsvq"]), split)
    assert error.value.exit_code == 2


def test_what_cannot_be_read_is_named(tmp_path):
    for file, content in (("MOS.csv", b""), ("MOS.csv", b'video,prompt\n"x')):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(InputError, match="MOS.csv"):
            read_dataset("lgvq", tmp_path)
    (tmp_path / "yesno_test_color.jsonl").write_text("{")
    with pytest.raises(InputError, match="yesno_test_color"):
        read_dataset("finevd", tmp_path, "test")
    with pytest.raises(InputError, match="does not exist"):
        read_dataset("lgvq", tmp_path / "nowhere")


def test_names_find_their_files(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/y.v2.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    media = MediaFolder(tmp_path)
    assert media.find("b/x.mp4") == media.find("./b/x") == str(tmp_path / "b" / "x.mp4")
    assert media.find("y.v2") == media.find("elsewhere/y.v2.mp4") == str(tmp_path / "b" / "y.v2.mp4")
    assert media.find("x.mp4") is None and media.find("notes.txt") is None and media.find("z") is None
    assert media.missing == ["x.mp4 (found 2 times)", "notes.txt", "z"]


def scored(tmp_path: Path, clips: list[Path], mos: list[object], name: str = "KoNViD_1k_mos.csv") -> Path:
    """KoNViD-1k with one clip a score."""
    place(tmp_path, clips, [f"{index}.mp4" for index in range(len(mos))])
    write_csv(tmp_path / name, ("flickr_id", "mos"), [[index, value] for index, value in enumerate(mos)])
    return tmp_path


@pytest.mark.parametrize("none", ["nan", "NaN", "", " "])
def test_rows_without_a_score_are_left_out_and_counted(tmp_path, clips, none):
    reading = read_dataset("konvid_1k", scored(tmp_path, clips, [3.5, none, 2.0, none]))
    assert [item.scores["overall"] for item in reading.items] == [3.5, 2.0]
    assert "; 2 rows without a score, such as " in reading.summary() and "KoNViD_1k_mos.csv, row 2 (mos" in str(
        reading.left_out
    )


@pytest.mark.parametrize("mos", [350, 0.5, "inf", -1, "5.01"])
def test_a_score_off_its_scale_is_named(tmp_path, clips, mos):
    with pytest.raises(InputError, match=f"KoNViD_1k_mos.csv, row 3: mos is '{mos}', off the scale of 1 to 5"):
        read_dataset("konvid_1k", scored(tmp_path, clips, [3.5, 2.0, mos]))


def test_the_row_that_is_named_is_the_files_own(tmp_path, clips):
    """Also where another split's rows stand before it, or another file's."""
    folder = write_miniature("koniq_10k", tmp_path / "koniq", clips)
    labels = folder / "koniq10k_distributions_sets.csv"
    labels.write_text(labels.read_text().replace(f"9.jpg,{PERCENT[9]}", "9.jpg,101"))
    with pytest.raises(InputError, match="row 10: MOS is '101'"):
        read_dataset("koniq_10k", folder, "test")
    assert read_dataset("koniq_10k", folder, "train").items
    with pytest.raises(InputError, match=r"f, row 1: mos is True, not a number"):
        Scores((0, 100)).read(Row({"mos": True}, "f, row 1"), {"overall": "mos"})
    write_jsonl(tmp_path / "static.jsonl", [{"id": "0.mp4->60"}, {"id": "1.mp4->600"}])
    with pytest.raises(InputError, match="static.jsonl, row 2: id is '600', off the scale of 0 to 100"):
        read_dataset("aigvqa_db", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "line", "says"),
    [("t2vqa_db", "info.txt", "0.mp4|a cat | 4 dogs|61.2", "info.txt, line 2: 4 fields, not file|prompt|overall"),
     ("t2vqa_db", "info.txt", "0.mp4|61.2", "info.txt, line 2: 2 fields"),
     ("live_yt_hfr", "labels.txt", "0.mp4, -1, -1, 3, 61", "labels.txt, line 2: 5 fields"),
     ("live_yt_hfr", "labels.txt", "0.mp4, -1, -1, 161", "labels.txt, line 2: mos is '161', off the scale")],
)  # fmt: skip
def test_lines_of_another_number_of_fields(tmp_path, clips, name, file, line, says):
    place(tmp_path, clips, ["0.mp4", "1.mp4"])
    first = "1.mp4|a\u2028b\x85c|50" if name == "t2vqa_db" else "1.mp4, -1, -1, 50"
    (tmp_path / file).write_text(f"{first}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=says.replace("|", "[|]")):
        read_dataset(name, tmp_path)
    (tmp_path / file).write_text(f"{first}\r\n", encoding="utf-8-sig")
    (item,) = read_dataset(name, tmp_path).items
    assert item.prompt in (None, "a\u2028b\x85c")


def test_other_labels_are_named_by_their_row(tmp_path, clips):
    folder = write_miniature("genai_bench", tmp_path, clips)
    (folder / "data.json").write_text((folder / "data.json").read_text().replace("bothbad_vote", "both", 1))
    with pytest.raises(InputError, match="data.json, row 4: vote_type is 'both'"):
        read_dataset("genai_bench", folder, "test")


def test_videos_behind_a_link(tmp_path, clips):
    disk, folder = tmp_path / "disk", tmp_path / "KoNViD"
    place(disk, clips, ["deep/0.mp4", "deep/1.mp4"])
    write_csv(folder / "KoNViD_1k_mos.CSV", ("flickr_id", "mos"), [[0, 3], [1, 4]])
    (folder / "videos").symlink_to(disk)
    (disk / "deep" / "home").symlink_to(folder)
    items = read_dataset("konvid_1k", folder).items
    assert [item.path for item in items] == [str(folder / "videos" / "deep" / f"{n}.mp4") for n in (0, 1)]


def test_konvid_as_its_authors_name_the_files(tmp_path, clips):
    """An id in the labels; more than it in the names of the files."""
    names = [f"{2000 + n}_original_centercrop_960x540_8s.mp4" for n in range(2)]
    place(tmp_path, clips, [*names, "20001_original.mp4"])
    write_csv(tmp_path / "KoNViD_1k_mos.csv", ("flickr_id", "mos"), [[2000, 3], [2001, 4], [200, 2]])
    reading = read_dataset("konvid_1k", tmp_path)
    assert [(Path(i.path).name, i.scores["overall"]) for i in reading.items] == [(names[0], 3), (names[1], 4)]
    assert reading.missing == ["200"]


def test_a_folder_whose_name_is_no_utf8(tmp_path, clips):
    folder = tmp_path / "caf\udce9"
    write_miniature("konvid_1k", folder, clips)
    with pytest.raises(InputError, match=r"caf\\udce9' is no UTF-8"):
        read_dataset("konvid_1k", folder)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "x\udce9.mp4").touch()
    assert MediaFolder(tmp_path / "plain").find("x\udce9") is None
