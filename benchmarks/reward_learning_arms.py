"""How the stages of the reward-learning benchmark train, and what its arms leave out or take another of."""

from dataclasses import dataclass, replace

from reward_model.training.config import GRPOTraining, RewardConfig

STAGE1 = GRPOTraining(steps=120, pairs_per_step=16, learning_rate=5e-4, kl_weight=0.01, micro_batch=128)
STAGE2 = replace(STAGE1, steps=100, micro_batch=256)
REWARDS = RewardConfig(temporal="discount", length=True, l_min=8, l_max=40)
"""Stage 2's; the bounds are those of a good answer about one clip or two, in tokens."""


@dataclass(frozen=True)
class Arm:
    """How stage 2 differs from the whole."""

    rewards: RewardConfig = REWARDS
    warm_up: bool = True


ARMS = {
    "stages 1 and 2": Arm(),
    "no temporal reward": Arm(replace(REWARDS, temporal="none")),
    "no length reward": Arm(replace(REWARDS, length=False)),
    "no warm-up": Arm(warm_up=False),
}
TEMPORAL: dict[str, Arm] = {
    f"temporal {name}": Arm(replace(REWARDS, temporal=name))
    for name in ("modeling", "fidelity", "contrast", "severity", "margin")
}
"""The whole with another temporal reward; arms that are run where they are named."""
WHOLE = "stages 1 and 2"
