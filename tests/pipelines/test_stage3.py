"""Stage 3 as the paper has it: its labels, the judge's own data, and a gate by labels that the judge did not give."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scripted_judges import AlwaysFirst, Brightest
from small_loop import MODELS, command, config, do, labelled_data, recipe, samples_of

from pipelines.loop import refresh as refresh_module
from pipelines.loop.config import JudgeConfig, RefreshConfig, RunConfig
from pipelines.loop.directory import RunDirectory
from pipelines.loop.plan import counted
from pipelines.loop.refresh_counts import own_pairs
from pipelines.loop.rehearsal.small import shrunk
from pipelines.loop.run import Run
from reward_model.datasets import QuestionItem
from reward_model.judging.loading import local_directory
from reward_model.prompts import DEFAULT_PROMPT
from reward_model.training import united as united_module
from reward_model.training.config import DataConfig, GRPOTraining, RewardConfig
from reward_model.training.held_out import labelled
from reward_model.training.united import items_of, read_own_data, train_united, united
from videoduet.errors import InputError
from videoduet.records import Comparison, LabelledPair, OrderVerdict
from videoduet.store import read_json, read_records
from videoduet.video import read_video

sys.path.append(str(Path(__file__).parent.parent / "reward_model"))
from miniature import vision_reward, write_parquet

DATA = [
    DataConfig(name="vision_reward_pairs", folder="", share=0.75),
    DataConfig(name="vision_reward_questions", folder=""),
]
TRAINED = {"steps": 1, "pairs": 9, "reward_first": 0.5, "reward_last": 0.6}


class Asked(Brightest):
    """Keeps the pairs that it was asked about."""

    def __init__(self):
        super().__init__()
        self.pairs: list[tuple[str, str]] = []

    def compare(self, pairs):
        for pair in pairs:
            self.pairs.append((pair.first.id, pair.second.id))
            yield from super().compare([pair])


@pytest.fixture
def judge(monkeypatch) -> Asked:
    """D_(r - 1); nothing is trained."""
    asked = Asked()
    monkeypatch.setattr(Run, "judge", lambda self, number: asked)
    monkeypatch.setattr(refresh_module, "_trained", lambda task, pairs, own: TRAINED)
    return asked


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """The finished run as it was before the refresh of its second round, which takes the paper's labels."""
    shutil.copytree(finished.root, tmp_path / "run")
    for name in ("round_01/refresh", "round_01/rank", "round_01/align", "score", "final"):
        shutil.rmtree(tmp_path / "run" / name)
    training = GRPOTraining(steps=1, pairs_per_step=1, num_generations=2)
    settings = RefreshConfig(**labelled_data(tmp_path, 2), labels="paper", tolerance_original=1.0, training=training)
    settings = replace(finished.config, judge=JudgeConfig(path="somewhere"), refresh=settings)
    return Run(RunDirectory(tmp_path / "run"), settings)


@pytest.fixture
def folder(tmp_path) -> Path:
    """VisionReward's."""
    vision_reward(tmp_path / "data", sorted((MODELS / "judge_data" / "train").glob("*.mp4"))[:4])
    return tmp_path / "data"


def brightness(video) -> float:
    return float(read_video(video.path).frames.mean())


def test_the_paper_labels_every_prompt_and_pays_for_nothing_twice(run, judge, monkeypatch):
    """The gate measures by a second judge and refuses, so the judge before ranks."""
    monkeypatch.setattr(Run, "own_judge", lambda self, adapter: AlwaysFirst())
    monkeypatch.setattr(Run, "load_judge", lambda self, path: Brightest())
    run = Run(run.directory, replace(run.config, refresh=replace(run.config.refresh, second_path="another")))
    output, root = run.folder("refresh", 1), run.directory.root
    do(run, "refresh", 1)
    summary = read_json(output / "summary.json")
    assert summary["status"] == "kept_previous" and set(summary["held_out"]) == {"original", "second judge's"}
    assert "second judge's pairs fell from 1.00 to 0.50" in summary["reason"]
    labels = read_records(LabelledPair, output / "labels.parquet", root=root)
    across = {label.prompt.id: label for label in labels if label.source == "across 1"}
    withheld = {prompt.id for prompt in run.split.withheld()}
    assert across.keys() == {prompt.id for prompt in run.prompts} - withheld
    for prompt_id, label in across.items():
        new, old = ([s.video for s in samples_of(root, "sample", r) if s.prompt_id == prompt_id] for r in (1, 0))
        assert label.first == max(new, key=brightness) and label.second == min(old, key=brightness)
    assert {label.source for label in labels} == {"across 1", "within 0", "within 1"}

    paid, judge.pairs = judge.pairs[:9], []
    do(run, "rank", 1)
    assert len(judge.pairs) == 3 and not set(judge.pairs) & set(paid)
    assert read_json(run.folder("rank", 1) / "summary.json")["comparisons"] == 12


def test_an_accepted_judge_ranks_anew(run, judge, monkeypatch):
    monkeypatch.setattr(Run, "own_judge", lambda self, adapter: Brightest())
    do(run, "refresh", 1)
    summary = read_json(run.folder("refresh", 1) / "summary.json")
    # What the judge picked itself is no measure of it.
    assert summary["status"] == "accepted" and set(summary["held_out"]) == {"original"} and summary["new_pairs"] == 3
    judge.pairs = []
    do(run, "rank", 1)
    assert len(judge.pairs) == 12


def test_a_judge_that_follows_position_picks_nothing(run, judge, monkeypatch):
    monkeypatch.setattr(Run, "judge", lambda self, number: AlwaysFirst())
    do(run, "refresh", 1)
    summary = read_json(run.folder("refresh", 1) / "summary.json")
    assert summary["status"] == "off" and "picked no new video" in summary["reason"]


def test_own_data_are_mixed_by_their_shares_and_pairs_are_held_out(folder, tmp_path, monkeypatch):
    data = [replace(each, folder=str(folder)) for each in DATA]
    original = labelled_data(tmp_path, 4)["held_out_data"]
    own = read_own_data(data, 0, held_out=original)
    pairs, questions = (ingredient.reading for ingredient in own.train)
    held_out = {pair.prompt.text for pair in own.held_out}
    assert len(own.held_out) > 4 and not held_out & {item.prompt for item in pairs.items}
    assert len(read_own_data([replace(each, limit=1) for each in data], 0).held_out) <= 1
    generated = labelled(pairs)
    mixture = united(generated, own.train, 0.4)
    assert [each.share for each in mixture] == pytest.approx([0.6, 0.3, 0.1])
    assert items_of(mixture) == round(len(generated) / 0.6)

    seen = {}
    monkeypatch.setattr(
        united_module, "run_grpo", lambda path, rows, *_, **named: seen.update(rows=rows, **named) or {}
    )
    training = GRPOTraining(steps=25, pairs_per_step=4, format_weight=1.0)
    train_united(
        "judge", mixture, tmp_path, training, rewards=RewardConfig(length=True), prompt=DEFAULT_PROMPT, seed=0,
        adapter=None,
    )  # fmt: skip
    assert len(seen["rows"]) == 100 and seen["reward_weights"] == [1.0, 1.0, 1.0]
    kinds = ["question" if '"kind": "question"' in row["right"] else "preference" for row in seen["rows"]]
    assert 2 <= kinds.count("question") <= 25
    assert isinstance(questions.items[0], QuestionItem)


def test_data_without_a_column_or_without_pairs_are_told_before_a_run_starts(folder, tmp_path):
    questions = replace(DATA[1], folder=str(folder))
    with pytest.raises(InputError, match="leaves no pairs for the gate"):
        read_own_data([questions], 0)
    table = next((folder / "regression").glob("*.parquet"))
    rows = [{k: v for k, v in row.items() if k != "standard_answer"} for row in pq.read_table(table).to_pylist()]
    write_parquet(table, rows)
    judge = {"factory": None, "path": str(MODELS / "judge")}
    refresh = {"data": [{"name": "vision_reward_pairs", "folder": str(folder)}]}
    with pytest.raises(InputError, match="standard_answer"):
        Run.start(config(tmp_path, judge=judge, refresh=refresh))


def test_wrong_settings_are_told_in_one_sentence(tmp_path):
    judge = JudgeConfig(path=str(MODELS / "judge"))
    paper = RefreshConfig(labels="paper", original_data="a.jsonl", held_out_data="b.jsonl")
    small = replace(config(tmp_path).generator, videos_per_prompt=2)
    wrong = {
        "generator.videos_per_prompt is 2": lambda: RunConfig(judge=judge, refresh=paper, generator=small),
        "vqinsight-aigcvideo is made to score single videos": lambda: replace(judge, preset="vqinsight-aigcvideo"),
        "refresh.rewards are for refresh.data": lambda: RefreshConfig(rewards=RewardConfig(length=True)),
        "refresh.original_share is 0": lambda: RefreshConfig(data=DATA, original_share=0.0),
    }
    for words, made in wrong.items():
        with pytest.raises(InputError, match=words) as refused:
            made()
        assert refused.value.exit_code == 2
    (tmp_path / "Q-Insight" / "vqinsight-naturalvideo").mkdir(parents=True)
    (tmp_path / "Q-Insight" / "vqinsight-naturalvideo" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no vqinsight-comp, only vqinsight-naturalvideo"):
        local_directory(tmp_path / "Q-Insight", "vqinsight-comp")


def test_a_backend_that_cannot_be_trained_turns_refresh_off_in_the_plan_too(tmp_path, capsys):
    refresh = labelled_data(tmp_path, 2)
    judge = {"factory": None, "path": str(MODELS / "judge"), "backend": "vllm"}
    assert command("--config", recipe(tmp_path, judge=judge, refresh=refresh), "--plan") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "The judge is not refreshed: A judge of backend vllm answers and cannot be trained" in said
    assert JudgeConfig(path="x").untrainable is None
    assert "judge.factory" in (JudgeConfig(factory="a.B").untrainable or "")


def test_a_plan_counts_the_papers_comparisons(tmp_path):
    judge, refresh = {"factory": None, "path": "judge"}, labelled_data(tmp_path, 2)
    agreed, paper = (
        config(tmp_path, judge=judge, refresh={**refresh, "labels": labels}, generator={"videos_per_prompt": 10})
        for labels in ("agreed", "paper")
    )
    # Of each prompt nine matches, a challenge and two pairs of versions; or, of four in five, all 45, and the two. The
    # gate asks two judges about the versions, and about the labels of one prompt in five and of the round before.
    assert counted(agreed, 100, 10)["refresh rollouts"] == 2 * (100 * (9 + 1 + 2 * 2) + 20 * 2 * (9 + 1 + 1))
    assert counted(paper, 100, 10)["refresh rollouts"] == 2 * (80 * 45 + 2 * 2 * 100)
    assert counted(paper, 100, 10, own=7)["refresh rollouts"] == 2 * (80 * 45 + 2 * 2 * 100 + 2 * 7)
    epochs = replace(paper.refresh, training=GRPOTraining(epochs=3, pairs_per_step=8))
    items = 160 / 0.66
    assert counted(replace(paper, refresh=epochs), 100, 10)["GRPO rollouts"] == pytest.approx(3 * items * 8, rel=0.03)


class Newest(Asked):
    """Prefers the first video, which is the newer of two versions; ``equals``: sees no difference."""

    def __init__(self, *, equals: bool = False):
        super().__init__()
        self.verdicts = ("tie", "tie") if equals else ("first", "second")

    def compare(self, pairs):
        for pair in pairs:
            self.pairs.append((pair.first.id, pair.second.id))
            forward, backward = (OrderVerdict(text="", verdict=verdict) for verdict in self.verdicts)
            yield Comparison.of(pair, "newest", forward, backward)


@pytest.mark.parametrize(("labels", "second"), [("paper", None), ("paper", "another"), ("agreed", None)])
def test_a_plan_counts_what_a_refresh_asks(run, judge, monkeypatch, labels, second):
    """Where all that may become a label is decided, and between versions there is no difference: all it can ask."""
    loads, equals, newer = Newest(), Newest(equals=True), refresh_module.newer_preferred
    monkeypatch.setattr(refresh_module, "newer_preferred", lambda versions, *_: newer(versions, equals, equals))
    for load in ("judge", "own_judge", "load_judge"):
        monkeypatch.setattr(Run, load, lambda *_: loads)
    settings = replace(run.config.refresh, labels=labels, second_path=second)
    run = Run(run.directory, replace(run.config, refresh=settings))
    do(run, "refresh", 1)
    assert read_json(run.folder("refresh", 1) / "summary.json")["status"] == "accepted"
    own, notes = own_pairs(run.config)
    assert own == 2 and notes == []
    rollouts = counted(run.config, len(run.prompts), 0, own)["refresh rollouts"]
    assert rollouts == 2 * (len(loads.pairs) + len(equals.pairs))


def test_a_run_with_the_papers_labels_can_be_rehearsed(tmp_path):
    judge, refresh = {"factory": None, "path": "judge"}, {**labelled_data(tmp_path, 2), "labels": "paper"}
    small = shrunk(config(tmp_path, judge=judge, refresh=refresh), tmp_path, ["a dog"], ["a cat"])
    assert small.generator.videos_per_prompt == 2 and small.refresh.why_off(small.judge) is None
