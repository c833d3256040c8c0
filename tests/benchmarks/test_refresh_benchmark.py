"""What the refresh benchmark measures with: its rendered clips, its arms, and its statistics."""

import numpy as np
import pytest

from benchmarks.refresh import differences, judged_right, newer_between_equals, report
from benchmarks.refresh_arms import ARMS, Sizes, config_of, oracle_labels, own_data_alone
from benchmarks.refresh_judge import FirstJudge, first_judge, rendered_pairs
from pipelines.loop import refresh as refresh_phase
from pipelines.loop.labels import Generated
from reward_model.training.config import GRPOTraining
from reward_model.training.refresh import read_labelled_pairs
from shapes_world import all_scenes, render
from shapes_world.build_judge import JudgeBuild
from shapes_world.world import FPS
from videoduet.records import Comparison, LabelledPair, OrderVerdict, Prompt, Video
from videoduet.video import write_video

PROMPT = Prompt.of(all_scenes()[3].prompt)


class Says:
    """Answers by the ids: the larger is better; about equal first letters it says nothing."""

    def compare(self, pairs):
        for pair in pairs:
            first = "first" if pair.first.id > pair.second.id else "second"
            other = first if pair.first.id[0] == pair.second.id[0] else {"first": "second", "second": "first"}[first]
            verdicts = [OrderVerdict(text="", verdict=verdict) for verdict in (first, other)]
            yield Comparison.of(pair, "says", *verdicts)


def pair_of(first: str, second: str, prompt: Prompt = PROMPT) -> LabelledPair:
    videos = (Video(id=name, path=f"{name}.mp4") for name in (first, second))
    return LabelledPair(prompt=prompt, first=next(videos), second=next(videos), preferred="first")


def test_rendered_pairs_follow_from_their_seed_and_differ_in_truth():
    pairs, again = (rendered_pairs(6, 1) for _ in range(2))
    assert all(abs(pair.gap) >= 0.03 for pair in pairs)
    assert all(np.array_equal(a.first.frames, b.first.frames) for a, b in zip(pairs, again, strict=True))
    # Damage is a program's: what is undamaged is the clean render, not an autoencoder's.
    clean = [clip for pair in rendered_pairs(40, 2) for clip in (pair.first, pair.second) if clip.spatial == 1]
    assert len(clean) > 10 and {len(np.unique(clip.frames[0].reshape(-1, 3), axis=0)) < 60 for clip in clean} >= {True}


def test_a_judge_is_right_by_prompt_and_no_decision_counts_half():
    other = Prompt.of("another")
    pairs = [pair_of("b", "a"), pair_of("a", "c"), pair_of("a1", "a2"), pair_of("d", "c", other)]
    found = judged_right(Says(), pairs)
    assert found[PROMPT.id] == pytest.approx((1 + 0 + 0.5) / 3) and found[other.id] == 1
    assert differences({"x": 1.0, "y": 0.5}, {"x": 0.25}) == [0.75]
    assert newer_between_equals(Says(), [PROMPT], [], []) == {}


def test_the_oracle_labels_what_it_tells_apart(tmp_path):
    frames = render(PROMPT.text, 0)
    clips = {"good": frames, "bad": np.full_like(frames, 128)}
    videos = {}
    for name, shown in clips.items():
        write_video(tmp_path / f"{name}.mp4", shown, FPS)
        videos[name] = Video(id=name, path=str(tmp_path / f"{name}.mp4"))
    both = {PROMPT.id: {"bad": videos["bad"], "good": videos["good"]}}
    labels = oracle_labels(Generated([PROMPT], [PROMPT], both, both, []), Says(), 1)
    assert {label.source for label in labels} == {"across 1", "within 1", "within 0"}
    assert {(label.first.id, label.second.id) for label in labels} == {("good", "bad")}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_config_and_puts_back_what_it_took(arm, tmp_path):
    config = config_of(arm, 1, tmp_path, Sizes(prompts=4, videos_per_prompt=3))
    assert (config.rounds, config.seed, config.pairs.pairs_per_prompt) == (3, 1, 1)
    off = config.refresh.why_off(config.judge)
    assert (off is None) == (arm != "none")
    before = {name: getattr(refresh_phase, name) for name in ARMS[arm].instead}
    with ARMS[arm].in_force():
        assert all(getattr(refresh_phase, name) is not before[name] for name in before)
    assert all(getattr(refresh_phase, name) is before[name] for name in before)


def test_own_data_alone_is_all_of_the_own_data():
    own = [pair_of(str(number), "0") for number in range(20)]
    drawn = own_data_alone([], [], own, share=0.3, seed=1)
    assert sorted(pair.first.id for pair in drawn) == sorted(pair.first.id for pair in own) and drawn != own


def test_the_table_tells_every_arm(capsys):
    def measured(right: float) -> dict:
        values = {str(number): right for number in range(5)}
        figures = {"held_out": {"original": {"before": 0.8, "after": 0.75}}}
        return {
            "right": {"D_1": values}, "newer": values, "wins": [right] * 8,
            "labels": {"D_1": {"across": [1.0, 0.0], "within": []}},
            "refreshes": {"D_1": {"status": "accepted", "reason": None, "figures": figures}},
            "D_0": {"rendered": {"a": 0.9}, "generated": {"a": 0.6}},
        }  # fmt: skip

    report({"none": {0: measured(0.5)}, "paper": {0: measured(0.75)}})
    said = "".join(capsys.readouterr())
    assert "0.900" in said and "0.600" in said and "+" not in said
    assert "0.2" in said and "paper" in said


@pytest.mark.slow
def test_the_first_judge_goes_through_its_stages_once(tmp_path):
    build = JudgeBuild(pairs=8, describe_steps=2, compare_steps=2, batch_size=4)
    grpo = GRPOTraining(steps=1, pairs_per_step=1, num_generations=2, lora_rank=2)
    how = FirstJudge(build=build, grpo=grpo, grpo_pairs=2, original_pairs=3, held_out_pairs=2)
    judge = first_judge(how, tmp_path)
    assert (judge / "judge_prompt.json").exists() and (judge / "model.safetensors").exists()
    assert [len(read_labelled_pairs(tmp_path / f"{name}.jsonl")) for name in ("train", "held_out")] == [3, 2]
    before = (judge / "model.safetensors").stat().st_mtime_ns
    assert first_judge(how, tmp_path) == judge and (judge / "model.safetensors").stat().st_mtime_ns == before
