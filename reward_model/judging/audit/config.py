"""The options of the audit's command."""

from dataclasses import dataclass, field
from typing import Any

from reward_model.judging.audit.card import check_names
from reward_model.judging.config import JudgeOptions
from videoduet.config import at_least
from videoduet.errors import InputError

CLIPS = 32
"""Clips asked about, of as many prompts, by default: enough to find each defect that benchmarks/audit.py makes."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig(JudgeOptions):
    """Options of the audit. Where a server's answers are kept (cache), asking it again says nothing about it.

    Attributes:
        factory: The import path of a class with compare (module.Class), in place of a judge.
        arguments: What that class is called with.
        videos: Good videos to try the judge on: a folder, one that pipelines.sample wrote, or a list with the columns
            video, prompt (None: clips of shapes world).
        votes: A table with the columns first, second, prompt, preferred (first, second or tie): what people said.
        clips: Clips to try, of as many prompts as there are.
        seed: Seed of what is done to them.
        require: Probes that must pass, by commas; else the exit code is 1.
        output: A directory for card.json and the page audit.html, with the pairs that the judge got wrong.
    """

    factory: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    videos: str | None = None
    votes: str | None = None
    clips: int = CLIPS
    seed: int = 0
    require: str = ""
    output: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, clips=self.clips)
        check_names(self.required)
        if self.arguments and self.factory is None:
            raise InputError("arguments are given, but no factory; name the class with --factory.", exit_code=2)

    @property
    def required(self) -> list[str]:
        """The probes that must pass."""
        return [name.strip() for name in self.require.split(",") if name.strip()]
