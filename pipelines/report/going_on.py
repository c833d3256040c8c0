"""The page of a run while that goes on: it says when it was last alive, and that it was stopped where it was.

A killed process can say nothing any more. So one that lives writes the time into its page every minute, and a page
whose time is old stops renewing itself and says so.
"""

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pipelines.report.page import write_report
from videoduet.store import write_bytes

EVERY = 60.0
"""Seconds between two signs of life."""
SIGN = re.compile(rb'data-alive="[^"]*"')


def now() -> str:
    """The time, to the second, as a browser reads it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def going_on(run_dir: Path) -> Generator[None]:
    """While the block runs, the report of the run in ``run_dir`` shows that it lives; where the block ends in an
    error, or at Ctrl-C, the report is written once more, as that of a run that was stopped.
    """
    page, over = run_dir / "report.html", threading.Event()

    def live() -> None:
        while not over.wait(EVERY):
            # A full disk or a page that is being written ends no run.
            with suppress(OSError):
                sign(page)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        if page.exists():
            with suppress(Exception):
                write_report(run_dir)
        raise
    finally:
        over.set()


def sign(page: Path) -> None:
    """Write the time into ``page``, where it says that its run goes on."""
    before = page.read_bytes() if page.exists() else b""
    if (found := SIGN.search(before)) is not None:
        write_bytes(page, before[: found.start()] + f'data-alive="{now()}"'.encode() + before[found.end() :])
