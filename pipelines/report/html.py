"""The one place where pages are made from templates: all text is escaped, and a name that is not there is an error."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.vbench.results import gain_of, percent, span_of
from pipelines.report.recorded import number

TEMPLATES = Path(__file__).parent / "templates"


def rounded_percent(value: Any) -> str:
    """A share in [0, 1] in whole percent; – where it is no number."""
    value = number(value)
    return "–" if value is None else f"{100 * value:.0f} %"


def figure(value: Any) -> str:
    """A value for a table cell: four digits, thousands grouped; – where it is unknown."""
    known = number(value)
    if known is None:
        return "–" if value is None else str(value).replace("_", " ")
    return f"{known:,.0f}" if known == int(known) and abs(known) < 1e12 else f"{known:.4g}"


def pick(rows: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """What each row has under ``key``, None where it has nothing."""
    return [row.get(key) for row in rows]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    # jinja2 leaves open what a filter takes.
    environment.filters.update(  # pyright: ignore[reportUnknownMemberType]
        percent=rounded_percent, figure=figure, pick=pick, score=percent, span=span_of, gain=gain_of
    )
    return environment


def render(template: str, **context: Any) -> bytes:
    """The page that ``template`` makes of ``context``, as UTF-8; what UTF-8 cannot say is escaped with a backslash."""
    return _environment().get_template(template).render(context).encode("utf-8", errors="backslashreplace")
