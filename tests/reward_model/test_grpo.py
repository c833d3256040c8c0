"""The trainer that carries videos: its log-probabilities are those of a plain forward, and its groups stay together."""

import zlib

import numpy as np
import pytest
import torch
from datasets import Dataset
from small_judge import PROMPTS, SMALL_PROMPT
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig

from reward_model.encoding import ShowingEncoder
from reward_model.judging.sharing import SharedPrefill, SharedVision
from reward_model.training.grpo import SPECIAL_VISION_TOKENS, VideoGRPOTrainer
from videoduet.video import read_video, write_video

QUESTIONS = [
    (PROMPTS[0], "red", "blue"),
    (PROMPTS[1], "three_frames", "wide"),
    (PROMPTS[2], "ten_frames", "single_frame"),
    ("other", "green", "red"),
]


class Recorder(VideoGRPOTrainer):
    """Keeps what every loss is computed from."""

    def __init__(self, *args, **kwargs):
        self.seen = []
        super().__init__(*args, **kwargs)

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        logps, _, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
        )
        for row in range(len(inputs["videos"])):
            kept = {
                name: inputs[name][row]
                for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "videos", "advantages")
            }
            self.seen.append({**kept, "logps": logps[row].detach(), "reference": inputs["ref_per_token_logps"][row]})
        return loss


@pytest.fixture(scope="module")
def rows(small) -> list[dict]:
    return [
        {"prompt": SMALL_PROMPT.messages(text, small.videos[a].path, small.videos[b].path), "question": index}
        for index, (text, a, b) in enumerate(QUESTIONS)
    ]


def trainer_on(small, rows, output_dir, reward, suppressed=SPECIAL_VISION_TOKENS, **arguments) -> Recorder:
    processor = AutoProcessor.from_pretrained(small.path)
    suppressed = processor.tokenizer.convert_tokens_to_ids(list(suppressed))
    return Recorder(
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path),
        processing_class=processor,
        reward_funcs=[reward],
        train_dataset=Dataset.from_list(rows),
        encoder=ShowingEncoder(processor, num_frames=8),
        args=GRPOConfig(**{
            "output_dir": str(output_dir), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "num_generations": 4, "max_completion_length": 6, "max_steps": 1, "beta": 0.1, "report_to": [], "seed": 3,
            "learning_rate": 0.0, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "log_level": "error",
            "save_strategy": "no", "disable_tqdm": True, "generation_kwargs": {"suppress_tokens": suppressed},
            **arguments,
        }),
    )  # fmt: skip


def letters(completions: list, question: list[int], **_) -> list[float]:
    """Something that differs between completions and between questions."""
    return [10.0 * q + zlib.crc32(c[0]["content"].encode()) % 7 for c, q in zip(completions, question, strict=True)]


@pytest.fixture(scope="module")
def trained(small, rows, tmp_path_factory) -> Recorder:
    """One step on all questions, in micro-batches that cut groups from each other."""
    trainer = trainer_on(small, rows, tmp_path_factory.mktemp("grpo"), letters, gradient_accumulation_steps=4)
    trainer.train()
    return trainer


@torch.no_grad()
def direct_logps(model, processor, row: dict, completion: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of ``completion`` after a prompt: one sample, no padding, the processor's own inputs."""
    paths = [part["video"] for part in row["prompt"][-1]["content"] if part["type"] == "video"]
    clips = [read_video(path, 8) for path in paths]
    total = [len(read_video(path).frames) for path in paths]
    inputs = processor(
        text=[processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)],
        videos=[torch.from_numpy(clip.frames).permute(0, 3, 1, 2) for clip in clips],
        video_metadata=[
            {"total_num_frames": count, "fps": clip.fps, "frames_indices": list(range(len(clip.frames)))}
            for count, clip in zip(total, clips, strict=True)
        ],
        do_sample_frames=False,
        return_tensors="pt",
    )
    length = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], completion[None]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    types = inputs["mm_token_type_ids"]
    inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros(1, len(completion), dtype=types.dtype)], dim=1)
    logits = model(**inputs).logits[0, length - 1 : -1]
    return logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]


def question_of(trainer: Recorder, seen: dict) -> int:
    """The question a recorded sample belongs to, by its prompt alone."""
    ids = seen["prompt_ids"][seen["prompt_mask"].bool()].tolist()
    (index,) = [i for i, row in enumerate(trainer.train_dataset) if trainer.encoder.showing(row["prompt"]).ids == ids]
    return index


def test_log_probabilities_are_those_of_a_direct_forward(small, rows, trained):
    """Ragged prompts, frame counts and sizes, two videos each; policy and reference, in the batches of a real step."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path).eval()
    assert len(trained.seen) == 16
    assert len({seen["prompt_mask"].sum().item() for seen in trained.seen}) > 2
    for seen in trained.seen:
        mask = seen["completion_mask"].bool()
        expected = direct_logps(
            model, trained.processing_class, rows[question_of(trained, seen)], seen["completion_ids"][mask]
        )
        assert torch.allclose(seen["logps"][mask], expected, atol=1e-5, rtol=0)
        assert torch.allclose(seen["reference"][mask], expected, atol=1e-5, rtol=0)


def test_every_sample_keeps_its_own_videos(small, trained):
    for seen in trained.seen:
        _, *names = QUESTIONS[question_of(trained, seen)]
        assert len(seen["videos"]) == 2
        for video, name in zip(seen["videos"], names, strict=True):
            assert torch.equal(video.patches, trained.encoder.video(small.videos[name].path).patches)


def test_groups_are_compared_within_themselves(trained):
    """Each question has its G completions in the step; advantages are distances from the mean of those."""
    groups = {}
    for seen in trained.seen:
        groups.setdefault(question_of(trained, seen), []).append(seen)
    assert {index: len(group) for index, group in groups.items()} == dict.fromkeys(range(4), 4)
    spread = 0
    for index, group in groups.items():
        texts = [
            trained.processing_class.tokenizer.decode(
                seen["completion_ids"][seen["completion_mask"].bool()], skip_special_tokens=True
            )
            for seen in group
        ]
        rewards = np.array(letters([[{"content": text}] for text in texts], question=[index] * 4))
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert np.allclose([float(seen["advantages"]) for seen in group], expected, atol=1e-5)
        spread += rewards.std() > 0
    assert spread >= 2


@torch.no_grad()
def test_pixels_change_log_probabilities(small, rows, trained, tmp_path):
    """The same prompt over other frames of the same size: only what is seen differs."""
    for name in ("red", "blue"):
        frames = read_video(small.videos[name].path).frames
        write_video(tmp_path / f"{name}.mp4", frames if name == "red" else 255 - frames, fps=8)
    changed = [{"prompt": SMALL_PROMPT.messages(PROMPTS[0], *(str(tmp_path / f"{n}.mp4") for n in ("red", "blue")))}]
    completion = torch.tensor(trained.processing_class.tokenizer("<think>red</think>").input_ids)
    logps = []
    for row in (rows[0], changed[0]):
        ids, _, _ = trained._tokenize_prompts([row["prompt"]])
        whole = torch.cat([torch.tensor(ids[0]), completion])[None]
        result = trained._get_per_token_logps_and_entropies(
            trained.model, whole, torch.ones_like(whole), len(completion), compute_entropy=True
        )
        logps.append(result[0])
        assert result[1].shape == result[0].shape
        assert (result[1] > 0).all()
    assert (logps[0] - logps[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("shared", [False, True])
def test_one_video_and_two_in_one_batch(small, rows, tmp_path, shared):
    """Also where each video and each prompt is there once; each video reaches the answers about it, and no other."""
    trainer = trainer_on(small, rows, tmp_path, letters)
    if shared:
        trainer.model.model.visual.requires_grad_(False)
        trainer.shared = SharedVision(trainer.model.model.visual)
    tokenizer, model = (
        trainer.processing_class.tokenizer,
        Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path),
    )
    write_video(tmp_path / "other.mp4", 255 - read_video(small.videos["three_frames"].path).frames, fps=8)

    def asked(*paths: str) -> list[dict]:
        content = [*({"type": "video", "video": path} for path in paths), {"type": "text", "text": "red circle"}]
        return [{"role": "user", "content": content}]

    one, wide, other = small.videos["three_frames"].path, small.videos["wide"].path, str(tmp_path / "other.mp4")
    prompts = [asked(one), asked(one, wide), asked(wide), rows[2]["prompt"], asked(one, wide), asked(one)]
    said = ("<think>red</think>", "<think>blue</think><answer>1", "a", "<think>", "<answer>2</answer>", "red circle")
    completions = [torch.tensor(tokenizer(text).input_ids) for text in said]
    longest = max(map(len, completions))

    def logps(prompts: list) -> torch.Tensor:
        ids, _, _ = trainer._tokenize_prompts(prompts)
        width = max(map(len, ids))
        whole, mask = torch.zeros(2, len(ids), width + longest, dtype=torch.long)
        for row, (prompt, completion) in enumerate(zip(ids, completions, strict=True)):
            place = slice(width - len(prompt), width + len(completion))
            whole[row, place], mask[row, place] = torch.cat([torch.tensor(prompt), completion]), 1
        return trainer._get_per_token_logps_and_entropies(trainer.model, whole, mask, longest, batch_size=5)[0]

    batch = logps(prompts)
    for prompt, row, completion in zip(prompts, batch, completions, strict=True):
        expected = direct_logps(model.eval(), trainer.processing_class, {"prompt": prompt}, completion)
        assert torch.allclose(row[: len(completion)], expected, atol=1e-5, rtol=0)
    changed = (logps([asked(other), asked(other, wide), *prompts[2:]]) - batch).abs().amax(1)
    assert (changed[:2] > 1e-3).all() and (changed[2:] < 1e-5).all()


@torch.no_grad()
def test_prompts_read_once_go_on_as_if_read_alone(small, rows, tmp_path):
    """Padded and not, rows in any order: what comes next is as likely, token after token."""
    trainer = trainer_on(small, rows, tmp_path, letters)
    model, tokenizer = trainer.model.eval(), trainer.processing_class.tokenizer
    shown = [rows[0]["prompt"], rows[1]["prompt"], rows[0]["prompt"], rows[3]["prompt"], rows[1]["prompt"]]

    def logits(prompts: list) -> torch.Tensor:
        inputs = trainer.encoder.collate([trainer.encoder.showing(prompt) for prompt in prompts], pixels=True)
        trainer._tokenize_prompts(prompts)
        output = model.generate(
            **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, output_logits=True,
            return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        return torch.stack(output.logits, dim=1)

    alone = [logits(each) for each in (shown, shown[:1] * 3)]
    prefill = trainer.prefill = SharedPrefill(model.model.language_model)
    together = [logits(each) for each in (shown, shown[:1] * 3)]
    assert prefill.read == 3 + 1
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=0)
    assert not torch.allclose(together[0][0], together[0][1], atol=1e-3)
    prefill.expect([trainer.encoder.showing(prompt) for prompt in shown])
    with pytest.raises(ValueError, match="5 were expected"):
        trainer.prefill = None  # nothing says that three rows come
        logits(shown[:3])


def test_batches_of_log_probabilities_do_not_matter(rows, trained):
    prompts = [rows[0]["prompt"], rows[3]["prompt"], rows[0]["prompt"]]
    ids, _, _ = trained._tokenize_prompts(prompts)
    width = max(map(len, ids))
    whole = torch.tensor([[0] * (width - len(row)) + row + [7, 8, 9] for row in ids])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * (len(row) + 3) for row in ids])
    with torch.no_grad():
        alone, pairs, together = (
            trained._get_per_token_logps_and_entropies(trained.model, whole, mask, 3, batch_size=size)[0]
            for size in (1, 2, None)
        )
    assert alone.shape == (3, 3)
    assert torch.allclose(alone, together, atol=1e-5, rtol=0)
    assert torch.allclose(pairs, together, atol=1e-5, rtol=0)
    assert torch.allclose(alone[0], alone[2], atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-4)


@pytest.mark.parametrize("suppressed", [True, False])
def test_vision_tokens_are_not_sampled(small, rows, tmp_path, suppressed):
    """A policy that wants nothing but vision tokens gets none of them, and would without the suppression."""
    tokens = SPECIAL_VISION_TOKENS if suppressed else SPECIAL_VISION_TOKENS[:1]
    trainer = trainer_on(small, rows[:1], tmp_path, letters, tokens, gradient_accumulation_steps=1)
    vision = trainer.processing_class.tokenizer.convert_tokens_to_ids(list(SPECIAL_VISION_TOKENS))
    trainer.model.lm_head.register_forward_hook(
        lambda module, args, output: output.index_add(
            -1, torch.tensor(vision), torch.full((*output.shape[:-1], 4), 50.0)
        )
    )
    ids, images, fields = trainer._tokenize_prompts([rows[0]["prompt"]] * 2)
    completions = trainer._generate_single_turn(ids, images, fields, 2)[0]
    sampled = {token for completion in completions for token in completion}
    assert sampled
    assert bool(sampled & set(vision)) != suppressed
