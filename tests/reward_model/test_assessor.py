"""AIGV-Assessor: its release's vectors (tests/golden/aigv_assessor_small), its checkpoints, and what it is asked."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from released_assessor import ABOUT, GOLDEN, release, stage1_state, stage2_state
from released_judge import run
from safetensors.torch import load_file

from reward_model import build_judge
from reward_model.families.assessor import LEVELS, Asked, Assessor, asked_about, level_of
from reward_model.families.branches import Branched, Rows
from reward_model.families.scores import ScoreHead, ScoreHeads, put_heads
from reward_model.judging.assessor import AssessorJudge
from reward_model.judging.base import Failure
from reward_model.judging.in_numbers import answer_to, rated_in
from reward_model.presets import ASSESSED
from reward_model.prompts import JudgePrompt, TaskPrompts
from reward_model.questions import View
from videoduet.errors import InputError
from videoduet.video import Clip

SAME, PADDED = "same_length", "padded"
SMALL = View(8, None, 16)


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "aigv_assessor_small_io.safetensors")


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[int, Path]:
    directory = tmp_path_factory.mktemp("released")
    for stage, state in ((1, stage1_state()), (2, stage2_state())):
        source = release(directory / f"stage{stage}", state)
        assert run("aigv_assessor", source, directory / f"judge{stage}") == 0
    return {stage: directory / f"judge{stage}" for stage in (1, 2)}


@pytest.fixture(scope="module")
def frames(vectors) -> list[Clip]:
    """The frames that the vectors show, four times each, so that the middle of each eighth is one of them."""
    shown = [clip.repeat_interleave(4, 0).numpy() for clip in vectors["frames_uint8"]]
    return [Clip(clip, np.arange(32) / 32, 32.0) for clip in shown]


def judge(directory: Path) -> AssessorJudge:
    found = build_judge(directory, preset="aigv-assessor", device="cpu")
    assert isinstance(found, AssessorJudge)
    return found


def about(assessor: Assessor, place: int, clip: Clip, row: dict, dimensions: tuple[str, ...], answered: bool) -> Asked:
    """A row of the vectors: one question with its whole answer, or as it is asked."""
    (level,) = (level for level in LEVELS if level in row["conversations"][1]["value"])
    prompt = replace(assessor.prompt, keys=dimensions)
    return asked_about(assessor.encoder, prompt, f"video{place}", "", {f"video{place}": clip},
                       [level] * len(dimensions) if answered else None)  # fmt: skip


def dimension_of(row: dict) -> str:
    return next(name for name in ASSESSED if name in row["conversations"][0]["value"])


@torch.no_grad()
def test_stage_1_says_what_the_release_says(stages, vectors, frames):
    """The very tokens, the vision and motion tokens, and the logits of the whole answer."""
    assessor = judge(stages[1]).assessor
    case = ABOUT["cases"]["stage1.same_length"]
    rows = [about(assessor, i, clip, row, (dimension_of(row),), True)
            for i, (clip, row) in enumerate(zip(frames, case["rows"], strict=True))]  # fmt: skip
    for place, row in enumerate(rows):
        ids = vectors["stage1.same_length.input_ids"][place].tolist()
        assert [*row.row.common, *row.row.branches[0]] == ids and row.learned == (10,)
    tokens = assessor._seen([row.video for row in rows]).view(2, -1, 64)
    assert torch.allclose(tokens[:, :-1].reshape(16, 16, 64), vectors["stage1.same_length.vit_embeds"], atol=1e-4)
    assert torch.allclose(tokens[:, -1], vectors["stage1.same_length.motion_embeds"], atol=1e-4)
    answers = assessor.answer_logits(rows)
    logits = torch.stack([found[0][0] for found in answers])
    assert torch.allclose(logits, vectors["stage1.same_length.answer_logits"], atol=1e-3)
    losses = [torch.nn.functional.cross_entropy(*found[0]) for found in answers]
    assert float(torch.stack(losses).mean()) == pytest.approx(case["loss"], abs=1e-3)
    asked = [about(assessor, i, clip, row, (dimension_of(row),), False)
             for i, (clip, row) in enumerate(zip(frames, case["rows"], strict=True))]  # fmt: skip
    levels = assessor.level_logits(assessor.before_levels(asked))[:, 0]
    expected = torch.tensor([[found[level] for level in LEVELS] for found in case["level_logits"]])
    assert torch.allclose(levels, expected, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("case", [SAME, PADDED])
def test_stage_2_scores_what_the_release_scores(stages, vectors, frames, case):
    """In a padded batch the release reads padding for the shorter row; here a row scores as alone."""
    assessor = judge(stages[2]).assessor
    rows = ABOUT["cases"][f"stage2.{case}"]["rows"]
    asked = [about(assessor, i, clip, row, (dimension_of(row),), False)
             for i, (clip, row) in enumerate(zip(frames, rows, strict=True))]  # fmt: skip
    before = assessor.before_levels(asked)
    assert torch.allclose(before[:, 0], vectors[f"stage2.{case}.head_input_at_own_row_minus4"], atol=1e-4)
    expected = vectors[f"stage2.{case}.score_at_own_row_minus4"]
    assert torch.allclose(assessor.scores(before)[:, 0], expected, atol=1e-4)
    alone = torch.cat([assessor.scores(assessor.before_levels([row])) for row in asked])
    assert torch.allclose(alone[:, 0], expected, atol=1e-4)
    if case == PADDED:
        assert not torch.allclose(expected, vectors["stage2.padded.score"], atol=0.1), "the release's own slip"
    if case == SAME:
        assert torch.allclose(assessor.scores(before)[:, 0], vectors["stage2.same_length.score_pre_relu"], atol=1e-4)


@torch.no_grad()
def test_four_dimensions_in_one_forward_score_as_four_questions(stages, frames):
    assessor = judge(stages[2]).assessor
    torch.manual_seed(0)
    put_heads(assessor.model, ScoreHeads.new(64, 4, (8,)), ASSESSED)
    row = ABOUT["cases"]["stage2.same_length"]["rows"][0]
    together = [about(assessor, i, clip, row, ASSESSED, False) for i, clip in enumerate(frames)]
    before, forwards = [], []
    hook = assessor.model.model.language_model.register_forward_hook(lambda *_: forwards.append(1))
    before = assessor.before_levels(together)
    hook.remove()
    assert len(forwards) == 1 and before.shape == (2, 4, 64)
    for place, name in enumerate(ASSESSED):
        alone = [about(assessor, i, clip, row, (name,), False) for i, clip in enumerate(frames)]
        assert torch.allclose(assessor.before_levels(alone)[:, 0], before[:, place], atol=1e-5)
    with_prompt = replace(assessor.prompt, keys=ASSESSED, question="Of {prompt}: {dimension}?")
    asked = asked_about(assessor.encoder, with_prompt, "video0", "a {dimension} <IMG_CONTEXT>", {"video0": frames[0]})
    assert assessor.before_levels([asked]).shape == (1, 4, 64), "what somebody wrote is words"


def test_questions_share_what_they_begin_with():
    row = Branched.of([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3]])
    assert row == Branched([1, 2], [[3, 4], [5], [3]])
    assert Branched.of([[7, 8]]) == Branched([7], [[8]]), "each has a token of its own"
    assert Branched.of([[1, 2], [1, 2, 3]]) == Branched([1], [[2], [2, 3]])
    rows = Rows.of([row, Branched([1], [[2], [2], [3]])], pad=9)
    assert rows.ids.tolist() == [[1, 2, 3, 4, 5, 3], [1, 2, 2, 3, 9, 9]]
    assert rows.positions.tolist()[0] == [0, 1, 2, 3, 2, 2] and rows.ends.tolist() == [[3, 4, 5], [1, 2, 3]]
    sees = (rows.mask(torch.float32)[0, 0] == 0).int().tolist()
    assert sees[4] == [1, 1, 0, 0, 1, 0] and sees[3] == [1, 1, 1, 1, 0, 0]


def test_a_question_without_its_dimension_has_a_branch_of_its_own(stages, frames):
    """Else a right answer would be learned from the end of another question."""
    assessor = judge(stages[1]).assessor
    row = ABOUT["cases"]["stage1.same_length"]["rows"][0]
    plain = Assessor(assessor.model, assessor.encoder, replace(assessor.prompt, question="How good is this video?"))
    with torch.no_grad():
        (found,) = plain.answer_logits([about(plain, 0, frames[0], row, ASSESSED, True)])
        for (logits, ids), name in zip(found, ASSESSED, strict=True):
            ((alone, same),) = plain.answer_logits([about(plain, 0, frames[0], row, (name,), True)])[0]
            assert torch.equal(ids, same) and torch.allclose(logits, alone, atol=1e-4)


def test_one_of_several_dimensions_is_answered_alone():
    scores = {"static quality": 25.0, "dynamic degree": 75.0}
    rate = partial(TaskPrompts().rate, "v", None, scale=(1, 5), view=SMALL)
    for names, rated, said in (
        (("dynamic degree",), ("dynamic degree",), "4.0"),
        (("overall",), (*scores,), "3.0"),
        (("dynamic degree", "static quality"), ("dynamic degree", "static quality"),
         '{"dynamic degree": 4.0, "static quality": 2.0}'),
    ):  # fmt: skip
        question = rate(names=names)
        assert rated_in(question, (*scores,)) == rated
        assert answer_to(question, rated, scores).text == f"<answer>{said}</answer>"


def test_a_video_gets_its_scores_and_a_pair_its_probability(stages, frames, vectors):
    found = judge(stages[2])
    one, other = found.score([*frames])
    assert [d.name for d in one.dimensions] == ["static quality"] and one.score == one.dimensions[0].value
    expected = 100 * vectors["stage2.same_length.score"]
    assert [one.score, other.score] == pytest.approx(expected.tolist(), abs=1e-2)
    assert one.text.startswith("The static quality of the video is ") and f"({one.score:.1f})" in one.text
    (forward,), (backward,) = (list(found.compare([pair])) for pair in (frames, frames[::-1]))
    assert forward.status == "decided" and forward.preferred_id == backward.preferred_id == one.video_id
    assert forward.p_first == pytest.approx(1 - backward.p_first) and forward.forward.p == forward.p_first
    failures: list[Failure] = []
    scores = list(found.score(["nowhere.mp4", frames[0]], failures=failures))
    assert len(scores) == len(failures) == 1 and scores[0].score == pytest.approx(one.score, abs=1e-3)
    (same,) = found.compare([(frames[0], frames[0])])
    assert same.status == "tie" and same.p_first == 0.5


def test_levels_score_where_there_is_no_head(stages, frames):
    (found, _) = judge(stages[1]).score(frames)
    assert [d.name for d in found.dimensions] == list(ASSESSED) and 0 <= found.score <= 100
    assert [level_of(value) for value in (-1, 0.19, 0.2, 0.5, 0.8, 1, 2)] == [
        "bad", "bad", "poor", "fair", "excellent", "excellent", "excellent",
    ]  # fmt: skip


def test_the_last_relu_is_off_unless_it_is_asked_for(stages, tmp_path, frames):
    """Drawn as the release draws it, a head behind a ReLU can be 0 whatever it sees, and never learn."""
    head = ScoreHead(8, (4,), relu=True)
    torch.nn.init.constant_(head.fc2.bias, -100)
    hidden = torch.randn(3, 8)
    assert head(hidden).tolist() == [0, 0, 0]
    head.relu = False
    assert (head(hidden) < -50).all()
    plain = judge(stages[2])
    assert json.loads((stages[2] / "config.json").read_text())["score_relu"] is False
    with torch.no_grad():
        plain.assessor.model.score_heads[0].fc5.bias -= 10
    assert next(plain.score(frames)).score < -500
    source = release(tmp_path / "source", stage2_state())
    line = ("--relu", "true", "--dimension", "dynamic degree", "--num_frames", "12")
    assert run("aigv_assessor", source, tmp_path / "out", *line) == 0
    cut = judge(tmp_path / "out")
    assert (cut.prompt.num_frames, plain.prompt.num_frames) == (12, 8)
    assert cut.prompt.keys == ("dynamic degree",) and cut.judge_id != plain.judge_id
    with torch.no_grad():
        cut.assessor.model.score_heads[0].fc5.bias -= 10
    assert next(cut.score(frames)).score == 0


def test_bad_checkpoints_are_named(tmp_path, capsys):
    whole = stage2_state()
    layer = "vision_model.base_model.model.encoder.layers.0.attn.qkv"
    cut = {name: value for name, value in whole.items() if name != f"{layer}.lora_B.default.weight"}
    astray = whole | {
        f"vision_model.encoder.layers.9.attn.qkv.lora_{s}.weight": whole[f"{layer}.lora_{s}.default.weight"].clone()
        for s in "AB"
    }
    for number, (held, said) in enumerate((
        (cut, "half of the LoRA of vision_model.encoder.layers.0.attn.qkv.weight"),
        (astray, "LoRA for vision_model.encoder.layers.9"),
        ({n: v for n, v in whole.items() if n != "mlpscore.fc3.bias"}, "score head (mlpscore.*)"),
        (whole | {"mlpscore.fc1.weight": torch.zeros(1024, 32)}, "takes 32 numbers, and the language model gives 64"),
        ({n: v for n, v in whole.items() if not n.startswith("motion_mlp")}, "lacks its motion weights"),
        (whole | {"mlpother.weight": torch.zeros(1)}, "Nothing takes mlpother.weight"),
    )):  # fmt: skip
        source = release(tmp_path / f"source{number}", held)
        assert run("aigv_assessor", source, tmp_path / f"out{number}") == 1
        message = " ".join(capsys.readouterr().err.split())
        assert said in message and "Traceback" not in message, message
        assert not (tmp_path / f"out{number}").exists()


def test_alpha_and_names_without_a_base_layer(stages, tmp_path):
    """Older PEFT put no ``base_layer`` between; another alpha is another judge."""
    state = {name.replace(".base_layer.", "."): value for name, value in stage2_state().items()}
    source = release(tmp_path / "source", state)
    (source / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16}))
    for more in ((), ("--alpha", 8)):
        assert run("aigv_assessor", source, tmp_path / f"out{len(more)}", *more) == 0
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    weights = [next(load_file(file)[name] for file in sorted(path.glob("*.safetensors")) if name in load_file(file))
               for path in (stages[2], tmp_path / "out0", tmp_path / "out2")]  # fmt: skip
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_it_is_not_asked_in_words(stages, frames):
    found = judge(stages[2])
    (score,) = found.score([(frames[0], "a cat")])
    question = found.prompt.score("a cat", "memory:a")
    missing = replace(question, messages=found.prompt.messages("", "nowhere.mp4"))
    said, lost = found.answer([replace(question, clips={"memory:a": frames[0]}), missing])
    assert question.read(said.text) == {"static quality": pytest.approx(score.score, abs=1e-3)}
    assert lost.error is not None and "nowhere" in lost.error
    view = found.prompt.view
    asked = [TaskPrompts().rate("memory:a", "a cat", (name,), (1, 5), view) for name in ("static quality", "overall")]
    both = found.answer([replace(each, clips={"memory:a": frames[0]}) for each in asked])
    expected = 1 + 4 * score.score / 100
    for question, one in zip(asked, both, strict=True):
        assert question.read(one.text) == {"": pytest.approx(expected, abs=1e-4)}, "on the scale that is asked for"
    with pytest.raises(InputError, match="rates static quality, and is asked about beauty"):
        list(found.answer([TaskPrompts().rate("v", None, ("beauty",), (1, 5), view)]))
    with pytest.raises(InputError, match="rates static quality, and is asked about beauty"):
        list(found.answer([replace(question, keys=("beauty",))]))
    with pytest.raises(InputError, match="numbers"):
        list(found.answer([JudgePrompt(None, "", "", "which?").compare("", "a", "b")]))
    with pytest.raises(InputError, match="not made to describe"):
        list(found.describe(frames))
    with pytest.raises(InputError, match="backend vllm"):
        build_judge(stages[2], backend="vllm")
    with pytest.raises(InputError, match="no vllm gives"):
        build_judge(stages[2], backend="vllm", preset="aigv-assessor")
    with pytest.raises(InputError, match="answers in words, and preset aigv-assessor is for numbers"):
        build_judge("shapes_world/models/judge", preset="aigv-assessor")
