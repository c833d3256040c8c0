"""What the judge's refresh is made of, with judges whose opinions are known."""

import json
import random
from collections.abc import Callable, Iterable, Iterator

import pytest

from reward_model.training.refresh import accuracy, best_by_knockout, labels_from, mixture, read_labelled_pairs
from videoduet.errors import InputError
from videoduet.records import Comparison, LabelledPair, OrderVerdict, Prompt, Video, VideoPair

PROMPTS = {name: Prompt(id=name, text=f"a {name}") for name in ("cat", "dog", "owl")}


def video(name: str) -> Video:
    return Video(id=name, path=f"{name}.mp4")


class KnownJudge:
    """Answers each showing by ``opinion(prompt, first, second)``; keeps what it was asked, call by call."""

    def __init__(self, opinion: Callable[[str, str, str], str | None], p: float | None = None):
        self.opinion, self.p, self.calls = opinion, p, []

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        pairs = list(pairs)
        self.calls.append(pairs)
        for pair in reversed(pairs):
            forward, backward = (
                OrderVerdict(text="", verdict=self.opinion(pair.prompt.id, one.id, other.id))
                for one, other in ((pair.first, pair.second), (pair.second, pair.first))
            )
            yield Comparison.of(pair, "known", forward, backward, self.p)


def larger(prompt_id: str, first: str, second: str) -> str:
    """Prefers the larger number in a video's name."""
    return "first" if int(first.split("_")[1]) > int(second.split("_")[1]) else "second"


# Labelled pairs in files


def write_rows(path, *rows) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


GOOD = {
    "prompt": "ein Kätzchen 'n ☂\u2028\x85zwei",
    "first": "clips/a b.mp4",
    "second": "../c.mp4",
    "preferred": "second",
}


def test_labelled_pairs_are_read(tmp_path):
    write_rows(tmp_path / "data" / "train.jsonl", GOOD, {**GOOD, "preferred": "first", "note": "more keys do no harm"})
    one, other = read_labelled_pairs(tmp_path / "data" / "train.jsonl")
    assert one.prompt == Prompt.of(GOOD["prompt"])
    assert one.first.path == str(tmp_path / "data" / "clips/a b.mp4")
    assert (one.preferred, other.preferred, one.source) == ("second", "first", "train")
    assert one.first.id != one.second.id
    assert other.pair == VideoPair(prompt=one.prompt, first=one.first, second=one.second)


def test_an_absolute_path_stays(tmp_path):
    write_rows(tmp_path / "train.jsonl", {**GOOD, "first": "/videos/a.mp4"})
    assert read_labelled_pairs(tmp_path / "train.jsonl")[0].first.path == "/videos/a.mp4"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json\n", "line 2"),
        ("[1, 2]\n", "line 2"),
        ("\n", "line 2"),
        ({**GOOD, "preferred": "tie"}, "preferred is 'tie'"),
        ({**GOOD, "preferred": None}, "preferred is None"),
        ({key: value for key, value in GOOD.items() if key != "prompt"}, "'prompt'"),
        ({key: value for key, value in GOOD.items() if key != "second"}, "'second'"),
        ({**GOOD, "prompt": None}, "prompt is None"),
        ({**GOOD, "first": None}, "first is None"),
        ({**GOOD, "second": 3}, "second is 3"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    write_rows(tmp_path / "train.jsonl", GOOD, line)
    with pytest.raises(InputError, match=says) as error:
        read_labelled_pairs(tmp_path / "train.jsonl")
    assert "train.jsonl, line 2" in str(error.value)


def test_a_bad_file_is_named(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD, ensure_ascii=False).encode("latin-1", "replace"))
    (tmp_path / "empty.jsonl").touch()
    for name in ("missing.jsonl", "latin.jsonl", "empty.jsonl"):
        with pytest.raises(InputError, match=name):
            read_labelled_pairs(tmp_path / name)


# Knockout


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 10])
def test_knockout_finds_the_best_with_the_fewest_comparisons(count):
    for seed in range(20):
        groups = {}
        for name in PROMPTS:
            groups[name] = [video(f"{name}_{index}") for index in range(count)]
            random.Random(seed).shuffle(groups[name])
        judge = KnownJudge(larger)
        best, played = best_by_knockout(judge, PROMPTS, groups)
        assert {name: winner.id for name, winner in best.items()} == {name: f"{name}_{count - 1}" for name in PROMPTS}
        assert len(played) == sum(map(len, judge.calls)) == 3 * (count - 1)
        assert len(judge.calls) == (count - 1).bit_length(), "one call of the judge for each stage"
        assert len({comparison.id for comparison in played}) == len(played)


def test_groups_of_different_sizes_and_none():
    groups = {"cat": [video(f"cat_{index}") for index in range(6)], "dog": [video("dog_0")], "owl": []}
    best, played = best_by_knockout(KnownJudge(larger), PROMPTS, groups)
    assert {name: winner.id for name, winner in best.items()} == {"cat": "cat_5", "dog": "dog_0"}
    assert len(played) == 5


def test_the_same_videos_may_stand_under_two_prompts():
    """Ids are content hashes: equal files have equal ids, and each prompt has its own opinion of them."""
    groups = {name: [video("clip_0"), video("clip_1"), video("clip_2")] for name in ("cat", "dog")}
    judge = KnownJudge(lambda prompt, a, b: larger(prompt, a, b) if prompt == "cat" else larger(prompt, b, a))
    best, played = best_by_knockout(judge, PROMPTS, groups)
    assert {name: winner.id for name, winner in best.items()} == {"cat": "clip_2", "dog": "clip_0"}
    assert len(played) == 4


@pytest.mark.parametrize("verdict", ["first", "second", "tie", None])
@pytest.mark.parametrize(("p", "stays"), [(None, "cat_0"), (0.5, "cat_0"), (0.7, "cat_0"), (0.3, "cat_1")])
def test_undecided_games_go_by_probability_then_by_order(verdict, p, stays):
    """A judge that names a position (or no one, or nothing readable) decides nothing."""
    judge = KnownJudge(lambda *_: verdict, p)
    best, played = best_by_knockout(judge, PROMPTS, {"cat": [video("cat_0"), video("cat_1")]})
    assert best["cat"].id == stays
    assert played[0].preferred_id is None
    assert labels_from(played, PROMPTS, {"cat_0": video("cat_0"), "cat_1": video("cat_1")}, "x") == []


def test_a_pair_the_judge_leaves_out_keeps_the_earlier_video():
    class Silent(KnownJudge):
        def compare(self, pairs):
            return iter([])

    best, played = best_by_knockout(Silent(larger), PROMPTS, {"cat": [video(f"cat_{index}") for index in range(5)]})
    assert (best["cat"].id, played) == ("cat_0", [])


# Labels, mixture, accuracy


def test_labels_come_from_decided_comparisons_only():
    videos = {name: video(name) for name in ("v_1", "v_2", "v_3")}
    opinions = {("v_1", "v_2"): "second", ("v_2", "v_1"): "first", ("v_3", "v_1"): "first", ("v_1", "v_3"): "second"}
    judge = KnownJudge(lambda _, a, b: opinions.get((a, b), "first"))
    asked = [("v_1", "v_2"), ("v_3", "v_1"), ("v_2", "v_3")]
    pairs = [VideoPair(prompt=PROMPTS["owl"], first=videos[a], second=videos[b]) for a, b in asked]
    labels = labels_from(judge.compare(pairs), PROMPTS, videos, "round_01")
    assert {(label.first.id, label.second.id, label.preferred) for label in labels} == {
        ("v_1", "v_2", "second"),
        ("v_3", "v_1", "first"),
    }
    assert {(label.prompt, label.source) for label in labels} == {(PROMPTS["owl"], "round_01")}


def label_of(name: str, preferred: str = "first", prompt: str = "cat") -> LabelledPair:
    return LabelledPair(
        prompt=PROMPTS[prompt], first=video(f"{name}_2"), second=video(f"{name}_1"), preferred=preferred, source=name
    )


NEW, WITHIN, ORIGINAL = (
    [label_of(f"{kind}{index}") for index in range(count)]
    for kind, count in (("new", 20), ("within", 50), ("original", 90))
)


@pytest.mark.parametrize(("share", "original"), [(0.0, 0), (0.2, 10), (0.5, 40), (0.6, 60), (0.9, 90), (1.0, 90)])
def test_mixture_has_its_shares(share, original):
    pairs = mixture(NEW, WITHIN, ORIGINAL, share=share, seed=0)
    counts = [sum(pair.source.startswith(kind) for pair in pairs) for kind in ("new", "within", "original")]
    assert counts == [20, 20, original]
    assert len({pair.source for pair in pairs}) == len(pairs), "nothing twice"


def test_mixture_takes_what_there_is():
    pairs = mixture(NEW, WITHIN[:5], ORIGINAL[:3], share=0.5, seed=0)
    assert len(pairs) == 28
    assert mixture([], WITHIN, ORIGINAL, share=0.5, seed=0) == []


def test_mixture_is_seeded_and_shuffled():
    one, again, other = (mixture(NEW, WITHIN, ORIGINAL, share=0.5, seed=seed) for seed in (7, 7, 8))
    assert one == again != other
    assert {pair.source for pair in one} != {pair.source for pair in other}
    assert any(pair.source.startswith("original") for pair in one[:20])
    assert any(pair.source.startswith("new") for pair in one[-20:])


def scored(*answers: tuple[str, str], p: float | None = None) -> dict:
    """``accuracy`` of a judge that gives ``answers`` (forward, backward) to pairs whose second video is better."""
    pairs = [label_of(f"pair{index}", "second") for index in range(len(answers))]
    table = {}
    for pair, (forward, backward) in zip(pairs, answers, strict=True):
        table[pair.first.id, pair.second.id] = forward
        table[pair.second.id, pair.first.id] = backward
    return accuracy(KnownJudge(lambda _, a, b: table[a, b], p), pairs)


def test_accuracy_counts_an_abstention_half():
    right, wrong, position, tie, none = (("second", "first"), ("first", "second"), ("first", "first"), ("tie", "tie"),
                                         (None, "first"))  # fmt: skip
    assert scored(right, right, right, wrong) == {
        "accuracy": 0.75, "decided_accuracy": 0.75, "abstention": 0.0, "first_position_rate": 0.5, "n": 4,
    }  # fmt: skip
    assert scored(right, position, tie, none) == {
        "accuracy": 2.5 / 4, "decided_accuracy": 1.0, "abstention": 0.75, "first_position_rate": 4 / 5, "n": 4,
    }  # fmt: skip
    undecided = scored(position, position, p=0.1)
    assert (undecided["accuracy"], undecided["decided_accuracy"], undecided["first_position_rate"]) == (0.5, None, 1.0)
    assert scored(tie)["first_position_rate"] is None
    assert scored()["accuracy"] is None


def test_accuracy_counts_a_pair_that_is_not_judged_half():
    class Forgetful(KnownJudge):
        def compare(self, pairs):
            return (c for c in super().compare(pairs) if c.first_id != "pair0_2")

    result = accuracy(Forgetful(larger), [label_of("pair0"), label_of("pair1"), label_of("pair2")])
    assert result["accuracy"] == pytest.approx(2.5 / 3)
    assert result["abstention"] == pytest.approx(1 / 3)
    assert result["decided_accuracy"] == 1.0
