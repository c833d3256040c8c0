"""Rollouts drawn over keys that lie still are those of ``generate`` from the same seed, and so is what they teach."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from small_judge import PROMPTS, SMALL_PROMPT
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig

from reward_model.encoding import ShowingEncoder
from reward_model.training.grpo import SPECIAL_VISION_TOKENS, VideoGRPOTrainer

QUESTIONS = [(PROMPTS[0], "red", "blue"), (PROMPTS[2], "three_frames", "wide")]


def lengths(completions: list, **_) -> list[float]:
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.fixture
def trainer(small, tmp_path) -> VideoGRPOTrainer:
    processor = AutoProcessor.from_pretrained(small.path)
    suppressed = processor.tokenizer.convert_tokens_to_ids(list(SPECIAL_VISION_TOKENS))
    rows = [{"prompt": SMALL_PROMPT.messages(t, small.videos[a].path, small.videos[b].path)} for t, a, b in QUESTIONS]
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path)
    return VideoGRPOTrainer(
        model=model, processing_class=processor, reward_funcs=[lengths], train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=4, target_modules=r".*language_model.*(q|v)_proj", init_lora_weights=False),
        encoder=ShowingEncoder(processor, num_frames=8), share_videos=True,
        args=GRPOConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=10,
            max_steps=1, beta=0.1, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
            temperature=1.2, top_k=20, top_p=0.95, generation_kwargs={"suppress_tokens": suppressed}, seed=3,
            log_level="error", save_strategy="no", disable_tqdm=True,
        ),
    )  # fmt: skip


def test_rollouts_and_their_loss_are_those_of_generate(trainer):
    trainer.current_gradient_accumulation_steps = 1
    rows = [row for row in trainer.train_dataset for _ in range(4)]
    read, losses, completions = trainer.prefill.read, [], []
    for engine in (False, True):
        trainer.engine = engine
        torch.manual_seed(5)
        scored = trainer._generate_and_score_completions(rows)
        completions.append(scored["completion_ids"])
        losses.append(float(trainer.compute_loss(trainer.model, scored).detach()))
    assert trainer.prefill.read == read + 2, "generate drew them both times"
    assert torch.equal(*completions)
    assert len(set(map(tuple, completions[0].tolist()))) > 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert trainer.shared.encoded == 4
