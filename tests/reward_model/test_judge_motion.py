"""A judge with a motion token: VQAThinker's vectors, sharing, GRPO, and a Qwen that has one too."""

import itertools
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from released_judge import ABOUT, GOLDEN, release, released_state, run
from safetensors.torch import load_file, save_file
from small_internvl import give_small_motion, write_moving
from small_judge import SMALL_PROMPT, labelled, pair
from small_qwen3 import write_qwen3

from pipelines import judge as asking
from pipelines.train_reward_model import parse
from reward_model import Judge
from reward_model.encoding import ShowingEncoder
from reward_model.families.sense import ENCODER, MotionSeam, MotionSense
from reward_model.judging.loading import load_model, load_processor, weights_id
from reward_model.presets import PRESETS
from reward_model.prompts import DEFAULT_PROMPT, JudgePrompt
from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.policy import policy_of
from reward_model.training.trainer import build_trainer, train_judge
from reward_model.wordings import Shown, as_asked
from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.store import content_hash
from videoduet.video import Clip

NAMES = ("red", "green", "blue")
PROMPT = replace(SMALL_PROMPT, max_new_tokens=5)


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("released")
    assert run("vqathinker", release(directory / "vqathinker", released_state()), directory / "judge") == 0
    return directory / "judge"


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "vqathinker_small_io.safetensors")


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("moving") / "judge"
    write_moving(path)
    PROMPT.save(path)
    return path


def asked(judge: Judge, kind: str, frames: torch.Tensor) -> ShowingEncoder:
    """The encoder of a released prompt for frames of the vectors' size, which are those that are shown."""
    preset = {"test": "vqathinker", "train": "vqathinker-train"}[kind]
    view = replace(PRESETS[preset].prompts.of("score").view, max_pixels=int(frames.shape[2] ** 2))
    encoder = judge._encoder(view)
    clips = {str(i): Clip(clip.numpy(), torch.arange(len(clip)).numpy() / 8, 8.0) for i, clip in enumerate(frames)}
    videos = {path: encoder.patchified(path, clip) for path, clip in clips.items()}
    encoder.video = lambda path, clip=None: videos[path]
    return encoder


@torch.no_grad()
@pytest.mark.parametrize("case", ["chat", "batch", "train"])
def test_logits_are_the_releases(converted, vectors, case):
    """From the words of the preset on: token ids, the place of the motion token, logits there and elsewhere."""
    judge = Judge.from_pretrained(converted, preset="vqathinker", device="cpu")
    kind = "train" if case == "train" else "test"
    encoder = asked(judge, kind, vectors[f"frames_{kind}_uint8"])
    prompt = PRESETS["vqathinker-train" if case == "train" else "vqathinker"].prompts.of("score")
    about = ABOUT["cases"][case]
    texts = about.get("prompts") or about.get("prompts_before_expansion") or [about["prompt"]]
    showings = []
    for number, text in enumerate(texts):
        said = text.rpartition("</img>")[2] if "</img>" in text else text.rpartition("Motion Feature:<image>\n")[2]
        question = said.removesuffix("<|im_end|>\n<|im_start|>assistant\n")
        assert question == prompt.question or number > 0
        showings.append(encoder.showing(replace(prompt, question=question).messages("", str(number))))
    inputs = encoder.collate(showings, pixels=True)
    assert torch.equal(inputs["input_ids"], vectors[f"{case}.input_ids"])
    seam = MotionSeam(judge.model, encoder)
    for video, feature in zip([s.videos[0] for s in showings], vectors[f"{case}.motion_feature"], strict=True):
        assert torch.allclose(seam.sense.features(video), feature, atol=1e-4)
    tokens = seam.sense.tokens([showing.videos[0] for showing in showings])
    assert torch.allclose(tokens, vectors[f"{case}.motion_embeds"], atol=1e-4)
    seam.expect([showing.videos for showing in showings])
    logits = judge.model(**inputs).logits
    seam.undo()
    assert (logits[:, about["logit_positions"]] - vectors[f"{case}.logits"]).abs().max() < 1e-3


@pytest.mark.parametrize("engine", [False, True])
def test_greedy_answers_are_the_releases(converted, vectors, engine):
    judge = Judge.from_pretrained(converted, preset="vqathinker", device="cpu")
    encoder, judge.engine = asked(judge, "test", vectors["frames_test_uint8"]), engine
    prompt = PRESETS["vqathinker"].prompts.of("score")
    shown = [encoder.showing(prompt.messages("", "0"))]
    found = judge._drawn(shown, encoder, {"do_sample": False}, 8, [])
    assert found.tokens.tolist() == vectors["chat.generated_ids"].tolist()


@pytest.mark.parametrize("name", ["vqathinker_motion", "vqathinker_motion_one_gpu"])
def test_recipes_ask_what_the_release_was_trained_with(name):
    recipe = parse(["--config", str(GOLDEN.parents[1] / "configs" / "reward_model" / "variants" / f"{name}.yaml")])
    asked = as_asked(recipe.prompts, ("overall",), recipe.scale, prompted=False, shown=judge_prompt_of(recipe))
    released = PRESETS["vqathinker-train"].prompts.of("score")
    assert asked == replace(released, max_new_tokens=asked.max_new_tokens)
    assert recipe.training.top_k == 50 and recipe.training.temperature == 0.9


def judge_prompt_of(recipe) -> JudgePrompt:
    return Shown(
        num_frames=recipe.num_frames, max_pixels=recipe.max_pixels, layout=recipe.layout,
        max_new_tokens=recipe.max_new_tokens,
    ).of(DEFAULT_PROMPT)  # fmt: skip


def direct(judge: Judge, showing, new: int) -> str:
    """A greedy answer of the plain model to one showing, token by token and without a cache."""
    seam, ids = MotionSeam(judge.model, judge.encoder), list(showing.ids)
    for _ in range(new):
        seam.expect([showing.videos])
        inputs = judge.encoder.collate([replace(showing, ids=ids)], pixels=True)
        ids.append(int(judge.model(**inputs, use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == judge.model.generation_config.eos_token_id:
            break
    seam.undo()
    return judge.tokenizer.decode(ids[len(showing.ids) :], skip_special_tokens=True)


@torch.no_grad()
@pytest.mark.parametrize("family", ["internvl", "qwen", "qwen3"])
@pytest.mark.parametrize("engine", [False, True])
def test_shared_answers_are_those_of_a_plain_forward(moving, small, family, engine, tmp_path):
    path = moving
    if family != "internvl":
        source, path = small.path, tmp_path / "moving"
        if family == "qwen3":
            write_qwen3(source := tmp_path / "plain")
        model = load_model(source)
        give_small_motion(model)
        model.save_pretrained(path)
        load_processor(source).save_pretrained(path)
    judge = Judge.from_pretrained(path, prompt=PROMPT, device="cpu")
    judge.engine = engine
    pairs, calls = [pair(small.videos, *names) for names in itertools.combinations(NAMES, 2)], []
    slowfast = getattr(judge.model, ENCODER)
    plain = slowfast.features
    slowfast.features = lambda frames: (calls.append(frames), plain(frames))[1]
    comparisons = list(judge.compare(pairs))
    assert len(calls) == len(NAMES), "the motion of each video is looked at once"
    assert list(judge.compare(pairs)) == comparisons and len(calls) == len(NAMES)
    texts = set()
    for question, comparison in zip(pairs, comparisons, strict=True):
        paths = (question.first.path, question.second.path)
        for order, verdict in ((paths, comparison.forward), (paths[::-1], comparison.backward)):
            showing = judge.encoder.showing(PROMPT.messages(question.prompt.text, *order))
            assert verdict.text == direct(judge, showing, PROMPT.max_new_tokens)
            texts.add(verdict.text)
    if family != "qwen":
        assert len(texts) > 1


@pytest.fixture(autouse=True, scope="module")
def _a_reward_that_random_weights_earn():
    def letters(completions: list, **_) -> list[float]:
        return [float(sum(map(ord, completion[0]["content"])) % 7) for completion in completions]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "tags_reward", letters)
        yield


CONFIG = GRPOTraining(steps=2, pairs_per_step=1, num_generations=2, learning_rate=1e-2, lora_rank=2, micro_batch=2,
                      checkpoint_steps=1, kl_weight=0.1)  # fmt: skip


def trainer_on(path, small, directory, shared: bool) -> VideoGRPOTrainer:
    rows = [{"prompt": PROMPT.messages("red", small.videos[a].path, small.videos[b].path)} for a, b in
            (("red", "blue"), ("green", "wide"))]  # fmt: skip
    reward = lambda completions, **_: [float(len(each[0]["content"])) for each in completions]  # noqa: E731
    return build_trainer(
        policy_of(load_model(path), path, CONFIG, "cpu"), load_processor(path), rows, directory, CONFIG, seed=3,
        prompt=PROMPT, reward_weights=[1.0],
        trainer_class=partial(VideoGRPOTrainer, reward_funcs=[reward], share_videos=shared),
    )  # fmt: skip


def log_probabilities(trainer, row: dict, said: list[int]) -> torch.Tensor:
    (ids,), _, _ = trainer._tokenize_prompts([row["prompt"]])
    whole = torch.tensor([ids + said] * 2)
    trainer._videos = trainer._videos * 2
    found = trainer._get_per_token_logps_and_entropies(trainer.model, whole, torch.ones_like(whole), len(said))[0]
    assert torch.allclose(found[0], found[1], atol=1e-6)
    return found[0]


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_log_probabilities_see_motion_and_nothing_steals_its_place(moving, small, tmp_path, shared):
    trainer, judge = trainer_on(moving, small, tmp_path, shared), Judge.from_pretrained(moving, device="cpu")
    context = trainer.encoder.video_token_id
    words = trainer.processing_class.tokenizer("1 2 first").input_ids
    row = trainer.train_dataset[1]
    showing = judge.encoder.showing(row["prompt"])
    table = judge.model.get_input_embeddings()
    family_tokens = judge._video_features([showing], judge.encoder)[0]
    for said in (words, [words[0], context, *words[1:]]):
        found = log_probabilities(trainer, row, said)
        # Embeddings put together by hand: in the prompt what is seen, in the completion what was said.
        ids = torch.tensor([showing.ids + said])
        places = ids == context
        places[:, len(showing.ids) :] = False
        embeds = table(ids).masked_scatter(places[..., None], torch.cat([tokens for (tokens,) in family_tokens]))
        logits = judge.model.model.language_model(inputs_embeds=embeds).last_hidden_state[0, len(showing.ids) - 1 : -1]
        expected = judge.model.lm_head(logits).log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0]
        assert torch.allclose(found, expected, atol=1e-5, rtol=0)
    before = log_probabilities(trainer, row, words)
    for video in trainer._videos[0]:
        video.known["motion"] = video.known["motion"].flip(0)
    assert (log_probabilities(trainer, row, words) - before).abs().max() > 1e-4
    trainer.stop_sharing()


def test_it_is_trained_and_resumed_with_its_motion(moving, small, tmp_path):
    pairs, ends = (
        [labelled(small.videos, "red", "blue", "first"), labelled(small.videos, "green", "wide", "second")],
        {},
    )

    def stop_at_two(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    for name, stop in (("whole", None), ("stopped", stop_at_two)):
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                train_judge(moving, pairs, tmp_path / name, CONFIG, seed=5, on_step=stop)
        train_judge(moving, pairs, tmp_path / name, CONFIG, seed=5)
        ends[name] = (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes()
    assert ends["whole"] == ends["stopped"]
    assert any(
        "motion_mlp.1" in name for name in load_file(tmp_path / "whole" / "adapter" / "adapter_model.safetensors")
    )
    config = replace(CONFIG, parameters="all", vision="all", kl_weight=0.05)
    train_judge(moving, pairs, tmp_path / "all", config, seed=5)
    before, after = load_model(moving).state_dict(), load_model(tmp_path / "all" / "model").state_dict()
    assert before.keys() == after.keys()
    moved = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert "motion_mlp" in moved and "slowfast_model" not in moved, "the encoder is really frozen"
    judge = Judge.from_pretrained(tmp_path / "whole" / "adapter", device="cpu")
    assert list(judge.compare([pair(small.videos, "red", "blue")]))


@pytest.mark.parametrize(
    ("part", "said"), [("motion_mlp", "motion projector"), ("slowfast_model", "motion weights"), ("", "motion")]
)
def test_a_checkpoint_without_its_motion_weights_is_told(moving, tmp_path, part, said):
    load_processor(moving).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((moving / "config.json").read_bytes())
    gone = (part,) if part else ("motion_mlp", "slowfast_model")
    state = load_file(moving / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith(gone)}
    save_file(kept, tmp_path / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(InputError, match=said):
        Judge.from_pretrained(tmp_path, device="cpu")


def test_too_few_frames_are_listed(moving, small):
    judge, failures = Judge.from_pretrained(moving, prompt=PROMPT, device="cpu"), []
    paths = [pair(small.videos, "red", "three_frames"), pair(small.videos, "red", "blue")]
    assert len(list(judge.compare(paths, failures=failures))) == 1
    assert len(failures) == 1 and "3 frames" in failures[0].reason


def test_features_of_other_frames_are_others(moving, small):
    judge = Judge.from_pretrained(moving, device="cpu")
    sense, video = MotionSense(judge.model, judge.encoder), judge.encoder.video(small.videos["red"].path)
    plain = sense.features(video)
    turned = replace(video, patches=video.patches.flip(0))
    assert not torch.equal(sense.features(turned), plain) and sense.features(video) is plain


def test_how_a_video_moves_outlives_its_frames(moving, small):
    judge = Judge.from_pretrained(moving, device="cpu")
    judge.encoder.keep, sense = 1, MotionSense(judge.model, judge.encoder)
    found = [sense.features(judge.encoder.video(small.videos[name].path)) for name in (*NAMES, *NAMES)]
    assert all(one is other for one, other in zip(found[:3], found[3:], strict=True))
    assert not torch.equal(found[0], found[1])


def test_an_id_says_what_motion_pools_by(moving, small, tmp_path):
    shutil.copytree(moving, tmp_path / "judge")
    config = json.loads((moving / "config.json").read_text())
    (tmp_path / "judge" / "config.json").write_text(json.dumps(config | {"motion_window": 2}))
    assert weights_id(tmp_path / "judge") != weights_id(moving)
    (weights,) = sorted(small.path.glob("*.safetensors"))
    assert weights_id(small.path) == stable_id(content_hash(weights)), "other judges keep theirs"


@pytest.mark.parametrize(("change", "options", "said"), [
    ("none", ["--max_pixels", 192**2], "182x182 are too small for SlowFast, which averages 7x7 cells of 32 pixels"),
    ("none", ["--num_frames", 3, "--max_pixels", 210**2], "Motion cannot be seen in 3 frames"),
    ("weights", [], "holds no motion weights"), ("projector", [], "holds no motion projector"),
    ("sense", [], "has no motion weights, and preset vqathinker asks one that has"),
])  # fmt: skip
def test_what_shows_no_motion_is_told_by_the_command(change, options, said, converted, small, tmp_path, capsys):
    judge = shutil.copytree(converted, tmp_path / "judge")
    config = json.loads((judge / "config.json").read_text()) | {"motion_window": 7}
    if change != "none":
        index = json.loads((judge / "model.safetensors.index.json").read_text())
        gone = {"weights": ("slowfast_model",), "projector": ("motion_mlp",)}.get(
            change, ("slowfast_model", "motion_mlp")
        )
        for name in set(index["weight_map"].values()):
            kept = {key: value for key, value in load_file(judge / name).items() if not key.startswith(gone)}
            save_file(kept, judge / name, metadata={"format": "pt"})
        index["weight_map"] = {key: name for key, name in index["weight_map"].items() if not key.startswith(gone)}
        (judge / "model.safetensors.index.json").write_text(json.dumps(index))
    if change == "sense":
        del config["motion_window"]
    (judge / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as ended:
        asking.main(["score", small.videos["red"].path, "--judge", str(judge), "--preset", "vqathinker",
                     *map(str, options)])  # fmt: skip
    printed = capsys.readouterr()
    told = " ".join((printed.out + printed.err).split())
    assert ended.value.code in (1, 2) and said in told and "Traceback" not in told and "UNEXPECTED" not in told, told
