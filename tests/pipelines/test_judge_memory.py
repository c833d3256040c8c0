"""The plan's model of a judge's training by rewards, against peaks that torch's allocator counts on the CPU."""

import pytest
from test_memory_model import most_held
from trl.trainer import utils

from benchmarks.grpo_step import Size, make_trainer
from pipelines.loop.judge_costs import frozen, learning_memory, lora_numbers, step_activations
from pipelines.loop.rates import judge_size
from reward_model.training.config import GRPOTraining
from videoduet.config import resolve

WORDS = 448
"""Words of a tile of logits: TRL's 32,768 would be most of what the toy holds."""
SEVEN = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 16), (4, 4, 8), (1, 8, 64)])
def test_a_step_on_the_toy_holds_what_the_plan_says(shape, recomputed, tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", WORDS)
    prompts, group, new = shape
    trainer, rows = make_trainer("toy", Size(prompts, group, 8, 32, new), tmp_path, share=True)
    trainer.engine = True
    if recomputed:
        trainer.model.gradient_checkpointing_enable()
    trainer.model.train()
    scored = trainer._generate_and_score_completions(rows)

    def step():
        trainer.compute_loss(trainer.model, scored).backward()

    step()
    trainer.model.zero_grad()
    numbers = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    measured = most_held(step, tmp_path / "trace.json") - 4.0 * numbers
    size = judge_size(resolve("shapes_world/models/judge"))
    assert size is not None and lora_numbers(size, 16) == numbers
    length = scored["prompt_mask"].sum(1).max().item() - 1 + group * (new + 1)
    tokens = prompts * length
    # On a CPU all tokens have log-probabilities, worked out with copies of a tile, which a GPU's kernel has not.
    head = 4.0 * tokens * (WORDS + 4 * size.vocabulary)
    found = 2 * step_activations(size, tokens, 0, recomputed=recomputed, widened=False)
    if not recomputed:
        found += head
    assert found == pytest.approx(measured, rel=0.15)
    trainer.stop_sharing()


def test_a_judge_of_7b_learns_on_24_gb():
    """In four bits, 8 rollouts in a pass, and 8 % of the card spared; in bfloat16 barely, and with 64 rollouts not."""
    size, room = judge_size(SEVEN), 0.92 * 24e9
    assert size is not None
    four = GRPOTraining(load_in="4bit", micro_batch=8)
    assert learning_memory(size, four) < 0.65 * room
    assert learning_memory(size, GRPOTraining(micro_batch=64)) > room
    plain, fewer = frozen(size, GRPOTraining(), 2.0), frozen(size, four, 2.0)
    # Eyes, embeddings and head stay as they are: 1.76 of 8.29·10⁹ weights.
    assert plain == pytest.approx(16.58e9) and fewer == pytest.approx(2 * 1.76e9 + 0.516 * 6.53e9, rel=0.01)
