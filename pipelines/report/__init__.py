"""What a person looks at: the page of a run, of judgements, of an evaluation on VBench."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from pipelines.report.page import write_report

__all__ = ["write_report"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"page": ["write_report"]})
