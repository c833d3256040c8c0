"""GRPO with the rewards of a stage: rewards that see whole groups and batches, and rollouts on perturbed videos."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from torch import Tensor

from reward_model.encoding import Showing
from reward_model.perturbations import PERTURBATIONS
from reward_model.training.config import RewardConfig
from reward_model.training.group_rewards import SCORING, Rollout, reward_table
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.perturbed_videos import perturbed
from reward_model.training.shards import whole
from videoduet.seeding import seed_for


class RewardColumn:
    """One reward, worked out for the whole batch before TRL asks for it; ``values`` are this process's share."""

    def __init__(self, name: str):
        self.__name__ = name
        self.values: list[float] = []

    def __call__(self, prompts: list, **_: Any) -> list[float]:
        return self.values


class StageTrainer(VideoGRPOTrainer):
    """Rows hold ``prompt`` and ``right``, the JSON of what would be right (see :class:`Rollout`).

    Videos are encoded once for all their rollouts; only the language model is trained.
    """

    def __init__(self, *args, rewards: RewardConfig, perturbation_seed: int, **kwargs):
        self.rewards, self.perturbation_seed = rewards, perturbation_seed
        reward_funcs = [RewardColumn(name) for name in rewards.columns]
        super().__init__(*args, reward_funcs=reward_funcs, **{"share_videos": True, **kwargs})

    def _calculate_rewards(
        self, inputs: list[dict], prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> Tensor:
        first = self.accelerator.process_index * len(inputs)
        right = [json.loads(row["right"]) for row in inputs]
        answers = self._perturbed_answers(prompts, right, first)
        mine = [
            Rollout(what, completion[0]["content"], len(ids), answers.get(index))
            for index, (what, completion, ids) in enumerate(zip(right, completions, completion_ids_list, strict=True))
        ]
        table, metrics = reward_table(gather_object(mine), self.rewards, self.num_generations)
        for column in self.reward_funcs:
            column.values = table[column.__name__][first : first + len(inputs)].tolist()
        for name, value in metrics.items():
            self._log_metric(name, value)
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _showings(self, prompts: Sequence[list[dict]]) -> list[Showing]:
        """The prompts tokenised; where a row is about a shuffled version of its clip, that is what is shown."""
        showings = super()._showings(prompts)
        alike = {id(showing): (showing, prompt) for showing, prompt in zip(showings, prompts, strict=True)}
        shown = {key: self._version(*known) for key, known in alike.items()}
        return [shown[id(showing)] for showing in showings]

    def _version(self, showing: Showing, prompt: list[dict]) -> Showing:
        parts = [part for message in prompt if not isinstance(message["content"], str) for part in message["content"]]
        severities = [part["severity"] for part in parts if part.get("severity")]
        if not severities:
            return showing
        (severity,), (clip,) = severities, {part["clip"] for part in parts if part.get("severity")}
        rng = np.random.default_rng(seed_for(self.perturbation_seed, "version", clip, severity))
        step = self.encoder.frames_in_patch
        return replace(showing, videos=[perturbed(v, "global_shuffle", rng, step, severity) for v in showing.videos])

    def _perturbed_answers(self, prompts: list, right: list[dict], first: int) -> dict[int, str]:
        """Answers to the same questions about perturbed videos, by row; ``first`` is the place of the first row.

        VQ-Insight shuffles the frames of half a group, each response's in its own order; VQAThinker degrades a video in
        one of six ways for the whole group. Which, depends on step and place alone, not on the process.
        """
        if self.rewards.temporal not in ("modeling", "fidelity", "consistency"):
            return {}
        modeling = self.rewards.temporal != "consistency"
        count = self.num_generations // 2 if modeling else self.num_generations
        rows = [
            row
            for row, what in enumerate(right)
            if what["kind"] in SCORING and what["moves"] and (first + row) % self.num_generations < count
        ]
        if not any(gather_object([bool(rows)]) if self.shards else [bool(rows)]):
            return {}
        if not rows:
            # Weights in shards are made whole by all processes together.
            with whole(self.accelerator.unwrap_model(self.model)):
                return {}
        step = self.encoder.frames_in_patch
        made: dict[int, Showing] = {}
        places = [first + row if modeling else (first + row) // self.num_generations for row in rows]
        for place, showing in zip(places, self._showings([prompts[row] for row in rows]), strict=True):
            if place not in made:
                rng = np.random.default_rng(seed_for(self.perturbation_seed, self.state.global_step, place))
                name = "global_shuffle" if modeling else str(rng.choice(list(PERTURBATIONS)))
                videos = [perturbed(video, name, rng, step) for video in showing.videos]
                made[place] = replace(showing, videos=videos)
        showings = [made[place] for place in places]
        videos_of_the_batch = self._videos
        ids, _, fields = self._model_inputs(showings)
        completions, _ = self._generate_single_turn(ids, None, fields, self.num_generations)
        self._videos = videos_of_the_batch
        texts = self.encoder.processor.tokenizer.batch_decode(completions, skip_special_tokens=True)
        return dict(zip(rows, texts, strict=True))
