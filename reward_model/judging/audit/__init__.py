"""Whether a judge can be trusted, found out before it labels anything: it is asked about pairs of known truth."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reward_model.judging.audit.card import AuditCard, Probe
    from reward_model.judging.audit.run import audit, plan

__all__ = ["AuditCard", "Probe", "audit", "plan"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"card": ["AuditCard", "Probe"], "run": ["audit", "plan"]}
)
