"""Judges that need no model: what they prefer can be read from the pixels, or is plainly wrong."""

import os
from collections.abc import Iterable, Iterator

from videoduet.records import Comparison, OrderVerdict, VideoPair
from videoduet.video import read_video


class Brightest:
    """Prefers the brighter video, asked in both orders; appends one line to ``calls`` for each pair it is asked
    about.
    """

    def __init__(self, calls: str | None = None):
        self.calls = calls

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        for pair in pairs:
            if self.calls is not None:
                with open(self.calls, "a") as file:
                    file.write(f"{pair.first.id} {pair.second.id}\n")
            first, second = (read_video(video.path).frames.mean() for video in (pair.first, pair.second))
            verdicts = ("first", "second") if first > second else ("second", "first")
            forward, backward = (OrderVerdict(text=f"<answer>{name}</answer>", verdict=name) for name in verdicts)
            yield Comparison.of(pair, "brightest", forward, backward)


class AlwaysFirst:
    """Prefers whatever it is shown first."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        verdict = OrderVerdict(text="<answer>first</answer>", verdict="first")
        for pair in pairs:
            yield Comparison.of(pair, "always first", verdict, verdict)


class Killer(Brightest):
    """Ends the process at once, as a kill would, when it has judged ``after`` pairs and the file ``once`` does not
    exist.
    """

    def __init__(self, once: str, after: int):
        super().__init__()
        self.once, self.after = once, after

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        for count, comparison in enumerate(super().compare(pairs)):
            if count == self.after and not os.path.exists(self.once):
                open(self.once, "w").close()
                os._exit(9)
            yield comparison


class ByName:
    """Prefers the video whose id comes later in the alphabet."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        for pair in pairs:
            verdicts = ("first", "second") if pair.first.id > pair.second.id else ("second", "first")
            forward, backward = (OrderVerdict(text=f"<answer>{name}</answer>", verdict=name) for name in verdicts)
            yield Comparison.of(pair, "by name", forward, backward)
