"""How a run audits its judge."""

from dataclasses import dataclass

from videoduet.config import at_least, identity

PROBES = (
    "order", "reads_prompt", "sees_picture", "sees_time", "not_bribed", "not_still", "means_what_it_says", "answers",
)  # fmt: skip
"""What a loop tries: all that a generator could learn to exploit. Asking the same pairs again and again is left to the
command.
"""


@dataclass(frozen=True, kw_only=True)
class LoopAuditConfig:
    """The audit of the judge, before the first round and after each refresh.

    Attributes:
        clips: Videos of the base that the judge is tried on, of as many prompts as there are (0: it is not audited).
            With fewer than 32 more is left in doubt.
    """

    clips: int = identity(16)

    def __post_init__(self) -> None:
        at_least(0, **{"audit.clips": self.clips})
