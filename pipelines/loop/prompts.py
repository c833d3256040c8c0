"""The prompts of a run: where they come from, and which of them teach whom."""

from dataclasses import dataclass

from pipelines.loop.prompts_config import PromptsConfig
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.prompt_sets import read_prompts
from videoduet.records import Prompt


@dataclass(frozen=True)
class RunPrompts:
    """The prompts that a config names: to learn from, and only to be scored."""

    train: list[Prompt]
    held_out: list[Prompt]


def read_run_prompts(config: PromptsConfig) -> RunPrompts:
    """The prompts of a run. Raises InputError where they cannot be read, or where a text is in both sets."""
    train = read_prompts(
        resolve(config.train), column=config.column, nsfw_below=config.nsfw_below, limit=config.limit,
        subset_seed=config.subset_seed,
    )  # fmt: skip
    held_out = read_prompts(
        resolve(config.held_out), column=config.column, nsfw_below=config.nsfw_below, limit=config.held_out_limit,
        subset_seed=None if config.held_out_limit is None else config.subset_seed,
    )  # fmt: skip
    if both := {prompt.text for prompt in train.prompts} & {prompt.text for prompt in held_out.prompts}:
        raise InputError(f"{len(both)} held-out prompts are training prompts too, e.g. {min(both)!r}; take them out.")
    return RunPrompts(train.prompts, held_out.prompts)


@dataclass(frozen=True)
class PromptSplit:
    """Who learns from which of the training prompts.

    Attributes:
        prompts: All of them, in order.
        cross_fit: Whether one half refreshes the judge and the other gives labels, swapping each round.
        measured: Share of the prompts that never refresh the judge, in [0, 1].
    """

    prompts: list[Prompt]
    cross_fit: bool
    measured: float

    def labelled(self, round_number: int) -> list[Prompt]:
        """Those that give DPO labels: all, or with cross-fitting the half that did not refresh this round's judge."""
        if self.cross_fit and round_number > 0:
            return self.prompts[(round_number + 1) % 2 :: 2]
        return self.prompts

    def refreshing(self, round_number: int) -> list[Prompt]:
        """Those whose videos refresh this round's judge: all, or with cross-fitting the other half."""
        if not self.cross_fit:
            return self.prompts
        others = {prompt.id for prompt in self.labelled(round_number)}
        return [prompt for prompt in self.prompts if prompt.id not in others]

    def withheld(self) -> list[Prompt]:
        """Those that never refresh the judge: the last ones, as many as the share says, at least one."""
        return self.prompts[-max(1, round(len(self.prompts) * self.measured)) :]
