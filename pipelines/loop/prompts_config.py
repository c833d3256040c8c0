"""Which prompts a run draws: the ``prompts`` section of its config."""

from dataclasses import dataclass

from videoduet.config import at_least, identity


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Which prompts are drawn.

    Attributes:
        train: File of prompts that the loop samples, ranks and learns from: text, one a line, or a JSON, CSV, TSV or
            parquet file with a column of them (VidProM's, for one).
        held_out: The same, of prompts that are only scored.
        limit: Use that many training prompts (None: all): the first ones, or those that subset_seed draws.
        held_out_limit: The same of the held-out prompts.
        subset_seed: Seed of the random subset of ``limit`` prompts (None: the first ones).
        column: The column of prompts, where it is not called prompt, prompt_en, text or caption.
        nsfw_below: Of VidProM's files only prompts whose six probabilities of being unsafe are all below this are used.
    """

    train: str = identity("prompts.txt")
    held_out: str = identity("held_out.txt")
    limit: int | None = identity(None)
    held_out_limit: int | None = identity(None)
    subset_seed: int | None = identity(None)
    column: str | None = identity(None)
    nsfw_below: float = identity(0.2)

    def __post_init__(self) -> None:
        at_least(1, **{"prompts.limit": self.limit, "prompts.held_out_limit": self.held_out_limit})
