"""The judge's command, in process, on real videos with the tiny judge that ships."""

import csv
import io
import json
import sys
from collections.abc import Iterator

import pytest
import yaml

from pipelines.judge import main
from reward_model.judging import batch as judging
from reward_model.judging.base import Answer, VideoJudge
from reward_model.prompts import DEFAULT_PROMPT, Prompts
from reward_model.questions import Question
from shapes_world.world import Scene, render
from videoduet.video import write_video

PROMPT = Scene("red", "circle", "left", "fast", "black").prompt


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """a.mp4 shows the prompt; b.mp4 and c.mp4 show something else."""
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        write_video(folder / f"{name}.mp4", render(Scene(colour, "circle", "left", "fast", "black").prompt, 0), 8)
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command: its exit code, standard output and standard error (with its line breaks taken out)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["judge", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code
        found = capsys.readouterr()
        return code, found.out, " ".join(found.err.split())

    return run


class Fixed(VideoJudge):
    """Gives the same answer to everything."""

    def __init__(self, text: str):
        super().__init__(Prompts(compare=DEFAULT_PROMPT), judge_id="fixed")
        self.text = text

    def answer(self, questions: Iterator[Question]) -> Iterator[Answer]:
        for _ in questions:
            yield Answer(self.text)


@pytest.fixture
def fixed(monkeypatch):
    return lambda text: monkeypatch.setattr(judging, "load_judge", lambda config: Fixed(text))


def test_compare_explains_itself(command, videos, tmp_path):
    page = tmp_path / "page.html"
    code, out, err = command("compare", videos / "a.mp4", videos / "b.mp4", "--prompt", PROMPT, "--report", page)
    assert code == 0
    assert "a.mp4" in out and "decided" in out and "<think>" in out and "1 comparison: 1 decided" in out
    assert "The tiny judge knows nothing but shapes world" in err
    text = page.read_text()
    assert text.count("data:image/webp;base64,") == 2 and "Better: a.mp4" in text and PROMPT in text


def test_forms_for_programs(command, videos, fixed):
    fixed("<answer>1</answer>")
    pair = (videos / "a.mp4", videos / "b.mp4")
    found = json.loads(command("compare", *pair, "--json")[1])
    (row,) = found["comparisons"]
    assert (row["first"], row["status"], row["preferred"]) == (str(pair[0]), "disagreement", None)
    assert found["statistics"]["comparisons"] == 1 and found["failures"] == []
    assert json.loads(command("compare", *pair, "--jsonl")[1]) == row
    (flat,) = csv.DictReader(io.StringIO(command("compare", *pair, "--csv")[1]))
    assert flat["forward_verdict"] == "first" and flat["status"] == "disagreement"


def test_a_folder_is_ranked(command, videos, tmp_path):
    code, out, _ = command("rank", videos, "--prompt", PROMPT, "--json", "--output", tmp_path / "out")
    found = json.loads(out)
    assert code == 0 and len(found["comparisons"]) == 3
    best = found["rankings"][0]
    assert (best["video"], best["rank"], best["wins"]) == (str(videos / "a.mp4"), 1, 2.0)
    code, out, err = command("rank", videos, "--prompt", PROMPT, "--output", tmp_path / "out")
    assert code == 0 and "Ranking" in out and "tiny judge" not in err, "nothing is judged again"
    code, _, err = command("rank", videos, "--prompt", "a cat", "--output", tmp_path / "out")
    assert code == 1 and "was judged with another items_id; give another --output" in err
    code, out, _ = command("rank", videos, "--prompt", PROMPT, "--csv", "--adaptive")
    assert code == 0 and next(csv.DictReader(io.StringIO(out)))["video"] == str(videos / "a.mp4")


def test_descriptions(command, videos):
    code, out, _ = command("describe", videos / "a.mp4", "--jsonl")
    words = [json.loads(line)["description"] for line in out.splitlines()]
    assert code == 0 and len(words) == 1 and "red circle" in words[0]


def test_scores_that_cannot_be_read_are_told(command, videos):
    """The tiny judge was never taught to score."""
    code, out, _ = command("score", videos / "a.mp4", "--json", "--batch_size", 2)
    (row,) = json.loads(out)["videos"]
    assert code == 0 and row["score"] is None and row["text"]


def write_batch(folder, videos, count):
    rows = [{"first": str(videos / "a.mp4"), "second": str(videos / f"{name}.mp4")} for name in "bcbc"][:count]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps({**row, "prompt": f"p{i}"}) for i, row in enumerate(rows)))
    return folder / "pairs.jsonl"


def test_a_batch_goes_on_where_it_was_stopped(command, videos, tmp_path, fixed, monkeypatch):
    monkeypatch.setattr(judging, "COMPARISONS_PER_SHARD", 1)
    fixed("<answer>1</answer>")
    batch = write_batch(tmp_path, videos, 4)
    whole = json.loads(command("compare", "--batch", batch, "--json", "--output", tmp_path / "whole")[1])
    asked = []

    def stopping(self, questions):
        for question in questions:
            if len(asked) == 4:
                raise KeyboardInterrupt
            asked.append(question)
            yield Answer("<answer>1</answer>")

    with monkeypatch.context() as patched:
        patched.setattr(Fixed, "answer", stopping)
        code, _, err = command("compare", "--batch", batch, "--output", tmp_path / "out")
        assert code == 130 and "Nothing is lost" in err
    assert len(list((tmp_path / "out").glob("compare_*.json"))) == 2
    code, out, _ = command("compare", "--batch", batch, "--json", "--output", tmp_path / "out")
    assert code == 0 and json.loads(out) == whole
    assert [row["prompt"] for row in whole["comparisons"]] == ["p0", "p1", "p2", "p3"]


def test_one_bad_video_is_listed_and_the_rest_is_judged(command, videos, fixed):
    fixed("tie")
    rows = [("a.mp4", "b.mp4"), ("a.mp4", "c.mp4"), ("gone.mp4", "a.mp4"), ("b.mp4", "c.mp4")]
    (videos / "list.csv").write_text("first,second\n" + "\n".join(",".join(row) for row in rows))
    code, out, err = command("compare", "--batch", videos / "list.csv", "--json")
    (videos / "list.csv").unlink()
    found = json.loads(out)
    assert code == 0 and len(found["comparisons"]) == 3 and len(found["failures"]) == 1
    assert "gone.mp4 does not exist" in err


def test_nothing_but_bad_videos(command, tmp_path):
    (tmp_path / "broken.mp4").write_text("this is no video")
    code, out, err = command("describe", tmp_path / "broken.mp4", "--judge", "shapes_world/models/second_judge")
    assert code == 1 and out == "" and "broken.mp4 cannot be read" in err and "Nothing could be judged" in err


@pytest.mark.parametrize("answer", ["1", "2"])
def test_a_judge_that_follows_position_is_recognised(command, videos, tmp_path, fixed, answer):
    fixed(f"<answer>{answer}</answer>")
    code, out, err = command("rank", videos)
    assert code == 0 and "This judge follows position" in err and "0 decided" in out


def test_prompts_are_no_html(command, videos, tmp_path, fixed):
    fixed("<answer>1</answer><script>alert(1)</script>")
    hostile = "<script>alert(2)</script> [bold]"
    page = tmp_path / "page.html"
    command("compare", videos / "a.mp4", videos / "b.mp4", "--prompt", hostile, "--report", page)
    assert "<script>" not in page.read_text() and "&lt;script&gt;" in page.read_text()


def test_copies_of_a_video_are_ranked_as_one(command, videos, tmp_path, fixed):
    fixed("1")
    for name, source in (("a", "a"), ("copy", "a"), ("c", "c")):
        (tmp_path / f"{name}.mp4").write_bytes((videos / f"{source}.mp4").read_bytes())
    code, out, err = command("rank", tmp_path, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["comparisons"]) == 1
    assert {row["video"] for row in found["rankings"]} == {str(tmp_path / "a.mp4"), str(tmp_path / "c.mp4")}
    assert f"copy.mp4: It is the same video as {tmp_path / 'a.mp4'}" in err


def test_adaptive_tournaments_list_what_is_broken_and_play_on(command, videos, fixed, monkeypatch):
    def ask(self, questions: Iterator[Question]) -> Iterator[Answer]:
        for question in questions:
            yield Answer(error="b.mp4 is broken") if "b.mp4" in str(question.messages) else Answer("1")

    fixed("1")
    monkeypatch.setattr(Fixed, "answer", ask)
    code, out, err = command("rank", videos, "--json", "--adaptive")
    found = json.loads(out)
    assert code == 0 and [row["second"] for row in found["comparisons"]] == [str(videos / "c.mp4")]
    assert [failure["reason"] for failure in found["failures"]] == ["b.mp4 is broken"] * 2
    assert (
        f"not judged: {videos / 'a.mp4'} / {videos / 'b.mp4'} and 1 more: b.mp4 is broken" in err
        and "1 of 1 questions have no prompt" in err
    )


def test_lists_rank_each_prompt_apart(command, videos, fixed):
    fixed("1")
    rows = ["a.mp4,one", "b.mp4,one", "b.mp4,two", "c.mp4,two"]
    (videos / "list.csv").write_text("video,prompt\n" + "\n".join(rows))
    code, out, _ = command("rank", videos / "list.csv", "--json")
    (videos / "list.csv").unlink()
    found = json.loads(out)
    assert code == 0 and [row["prompt"] for row in found["comparisons"]] == ["one", "two"]
    assert [row["prompt"] for row in found["rankings"]] == ["one", "one", "two", "two"]


BAD = {
    ("compare", "{v}/a.mp4"): (2, "compare takes two videos, not 1"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--batch", "x.csv"): (2, "not both"),
    ("compare", "--batch", "x.csv"): (2, "x.csv is no CSV"),
    ("compare", "{v}/a.mp4", "{v}/gone.mp4"): (1, "gone.mp4 does not exist"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--json", "--csv"): (2, "Give one of"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--preset", "vq"): (2, "no preset vq"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--judge", "./no_judge"): (1, "no_judge cannot be loaded"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--samples", "0"): (2, "samples is 0"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--samples", "two"): (2, "samples"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--backend", "server"): (2, "belong together"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--backend", "server", "--server", "here"): (2, "Server here is no URL"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--backend", "vllm"): (1, "vLLM is not installed"),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--judge", "shapes_world/models/generator"): (
        1,
        "generator cannot be loaded",
    ),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--judge", "shapes_world/models/generator/text_encoder"): (
        1,
        "text_encoder is a clip_text_model; give one of qwen2_5_vl",
    ),
    ("compare", "{v}/a.mp4", "{v}/b.mp4", "--adapter", "{v}"): (1, "cannot be put on this judge"),
    ("rank", "{v}/typo"): (1, "typo does not exist"),
    ("rank", "{v}/nothing"): (1, "nothing holds neither videos nor frames"),
    ("rank", "{v}/a.mp4"): (1, "a ranking takes two or more"),
    ("score",): (2, "No videos are named"),
    ("wrong",): (2, "wrong"),
}


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_is_told_in_one_sentence(command, videos, arguments):
    code, sentence = BAD[arguments]
    (videos / "nothing").mkdir(exist_ok=True)
    found, out, err = command(*(argument.format(v=videos) for argument in arguments))
    assert found == code and sentence in err and "Traceback" not in err and out == ""


@pytest.mark.parametrize(
    ("text", "problem"), [("", "is empty"), ("video\n", "is empty"), ("name\nx.mp4\n", "row 1: has no video")]
)
def test_bad_lists(command, tmp_path, text, problem):
    (tmp_path / "list.csv").write_text(text)
    code, _, err = command("score", tmp_path / "list.csv")
    assert code == 1 and problem in err


def test_help_teaches(command):
    code, out, _ = command("rank", "--help")
    assert code == 0 and "--adaptive" in out and "--report" in out and "list" in out


def test_what_failed_is_asked_again_once_it_is_mended(command, videos, tmp_path):
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    a.write_bytes((videos / "a.mp4").read_bytes())
    b.write_text("this is no video")
    asked = ("compare", a, b, "--prompt", PROMPT, "--output", tmp_path / "judged")
    code, _, err = command(*asked)
    assert code == 1 and "b.mp4 cannot be read" in err
    b.write_bytes((videos / "b.mp4").read_bytes())
    code, out, _ = command(*asked)
    assert code == 0 and "1 comparison: 1 decided" in out


def test_a_path_too_long_costs_its_own_row(command, videos, tmp_path):
    rows = [["first", "second", "prompt"], [videos / "a.mp4", videos / "b.mp4", PROMPT], [PROMPT * 20, "b", "c"]]
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    code, out, err = command("compare", "--batch", tmp_path / "pairs.csv")
    assert code == 0 and "1 comparison: 1 decided" in out and "cannot be read (File name too long)" in err


def test_a_judge_trained_anew_at_its_path_does_not_go_on(command, videos, tmp_path, monkeypatch):
    judge = Fixed("1")
    monkeypatch.setattr(judging, "load_judge", lambda config: judge)
    asked = ("compare", videos / "a.mp4", videos / "b.mp4", "--output", tmp_path / "judged")
    assert command(*asked)[0] == 0
    (tmp_path / "judged" / "compare_00000.json").unlink()
    assert command(*asked)[0] == 0
    (tmp_path / "judged" / "compare_00000.json").unlink()
    judge.judge_id = "trained further"
    code, _, err = command(*asked)
    assert code == 1 and "was judged with other weights or another wording" in err


def test_a_directory_of_an_older_version_goes_on(command, videos, tmp_path, fixed):
    """It kept what was asked in asked.json, and whom in judge.json."""
    fixed("1")
    asked = ("compare", videos / "a.mp4", videos / "b.mp4", "--json", "--output", tmp_path / "judged")
    whole = json.loads(command(*asked)[1])
    kept = yaml.safe_load((tmp_path / "judged" / "config.yaml").read_text())
    for older in ("fixed", "another"):
        (tmp_path / "judged" / "config.yaml").unlink()
        (tmp_path / "judged" / "asked.json").write_text(
            json.dumps({name: kept[name] for name in kept if name not in ("schema_version", "judge_id")})
        )
        (tmp_path / "judged" / "judge.json").write_text(json.dumps(older))
        assert json.loads(command(*asked)[1]) == whole
        code, _, err = command(*asked[:-2], "--samples", 2, "--output", tmp_path / "judged")
        assert code == 1 and "was judged with another samples; give another --output" in err
    (tmp_path / "judged" / "compare_00000.json").unlink()
    code, _, err = command(*asked)
    assert code == 1 and "was judged with other weights" in err


def test_names_that_are_no_utf8_are_judged_and_escaped(command, videos, tmp_path, fixed):
    fixed("1")
    folder = tmp_path / "m\udcfcll"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}\udce9.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
    asked, first = (
        ("rank", folder, "--report", tmp_path / "page.html", "--output", folder / "out"),
        folder / "a\udce9.mp4",
    )
    code, out, _ = command(*asked, "--json")
    assert code == 0 and json.loads(out)["comparisons"][0]["first"] == str(first)
    assert json.loads(command(*asked, "--jsonl")[1])["first"] == str(first)
    code, out, _ = command("compare", *folder.glob("*.mp4"), "--csv")
    assert code == 0 and "a\\udce9.mp4" in out
    code, out, _ = command(*asked)
    assert code == 0 and "a\\udce9.mp4" in out and "a\\udce9.mp4" in (tmp_path / "page.html").read_text()


def test_lists_of_every_kind(command, videos, tmp_path, fixed):
    fixed("1")
    row = {"first": str(videos / "a.mp4"), "second": str(videos / "b.mp4"), "prompt": "x"}
    for name, text in (
        ("a.TSV", "\t".join(row) + "\n" + "\t".join(row.values())),
        ("a.json", json.dumps([row])),
        ("a.NDJSON", "\ufeff" + json.dumps(row)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        code, out, _ = command("compare", "--batch", tmp_path / name, "--json")
        assert code == 0 and len(json.loads(out)["comparisons"]) == 1, name
    (tmp_path / "a.xlsx").write_text("x")
    for asked in ("compare", "score"):
        code, _, err = command(asked, "--batch", tmp_path / "a.xlsx")
        assert code == 2 and "a.xlsx is no CSV, TSV, JSON, JSON Lines or parquet file" in err
    (tmp_path / "a.csv").write_text("first,second,prompt\na.mp4,b.mp4,a cat, running\n")
    code, _, err = command("compare", "--batch", tmp_path / "a.csv")
    assert code == 1 and "row 1 has 4 fields, not 3" in err
    (tmp_path / "a.jsonl").write_text('{"video": "a.mp4", "prompt": "\\ud83d"}')
    code, _, err = command("score", tmp_path / "a.jsonl")
    assert code == 1 and "row 1: its prompt holds half a character" in err


@pytest.mark.parametrize("given", ["option", "environment"])
def test_videos_are_read_by_decord(command, videos, monkeypatch, given):
    pytest.importorskip("decord")
    from videoduet.video import decord_reader, reading

    calls, read = [], decord_reader.read_by_decord
    monkeypatch.setenv(decord_reader.READER, "decord" if given == "environment" else "pyav")
    monkeypatch.setattr(reading, "read_by_decord", lambda path, *rest: calls.append(path.name) or read(path, *rest))
    options = ["--reader", "decord"] if given == "option" else []
    pair = (videos / "a.mp4", videos / "b.mp4")
    found = command("compare", *pair, "--prompt", PROMPT, "--json", *options)
    assert found[0] == 0 and sorted(calls) == ["a.mp4", "b.mp4"]
    monkeypatch.setenv(decord_reader.READER, "pyav")
    assert command("compare", *pair, "--prompt", PROMPT, "--json")[1] == found[1] and len(calls) == 2
    code, _, err = command("compare", *pair, "--reader", "opencv")
    assert code == 2 and "reader" in err
