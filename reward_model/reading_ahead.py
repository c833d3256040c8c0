"""Videos are decoded by threads while the model answers: what is asked soon is read before it is wanted."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from reward_model.questions import Question, View, video_paths
from videoduet.processes import cores
from videoduet.video import Clip, written

READERS = 8
AHEAD = 32
"""Decoded clips at most that nobody has taken yet. One of 16 frames of 320x512 has 8 MB."""
State = tuple[str, tuple[int, int] | None]
"""A path and the state of its file: one that was written anew is another video."""


class ReadAhead:
    """Decodes videos in the order in which they will be wanted, at most ``AHEAD`` before they are.

    PyAV decodes without Python's lock, so threads are enough. Where one was expected in vain, or is wanted
    unexpectedly, nothing is lost but time.
    """

    def __init__(self, read: Callable[[str], Clip]):
        """``read(path)`` decodes one."""
        self._read = read
        self._expected, self._begun = OrderedDict[State, None](), OrderedDict[State, Future[Clip]]()
        self._threads: ThreadPoolExecutor | None = None

    def expect(self, path: str) -> None:
        """``path`` will be wanted, after everything that is expected already."""
        state = (path, written(path))
        if state not in self._begun and state not in self._expected:
            self._expected[state] = None
            self._begin()

    def take(self, path: str) -> Clip:
        """The decoded video. Raises what reading it raises."""
        state = (path, written(path))
        reading = self._begun.pop(state, None)
        if reading is None:
            self._expected.pop(state, None)
            # Whoever was passed over may never be wanted: there must be room for others.
            if self._begun:
                self._begun.popitem(last=False)[1].cancel()
            self._begin()
            return self._read(path)
        self._begin()
        return reading.result()

    def forget(self) -> None:
        """Nothing is expected any more."""
        self._expected.clear()
        while self._begun:
            self._begun.popitem()[1].cancel()

    def _begin(self) -> None:
        while self._expected and len(self._begun) < AHEAD:
            self._threads = self._threads or ThreadPoolExecutor(max(1, min(READERS, cores() - 1)), "decoding")
            state, _ = self._expected.popitem(last=False)
            self._begun[state] = self._threads.submit(self._read, state[0])


class Expecting(Protocol):
    """What shows videos, and can be told beforehand which."""

    def expect(self, path: str) -> None:
        """``path`` will be shown, after everything that is expected already."""


def looked_ahead(questions: Iterable[Question], number: int, shower: Callable[[View], Expecting]) -> Iterator[Question]:
    """``questions``; the videos of one that is still ``number`` questions away are expected of its view's ``shower``.

    What goes wrong in making a question is raised where that question would have come.
    """
    coming, waiting, wrong = iter(questions), deque[Question](), list[Exception]()
    while True:
        while coming is not None and len(waiting) <= number:
            try:
                question = next(coming, None)
            except Exception as error:
                question, wrong = None, [error]
            if question is None:
                coming = None
                break
            waiting.append(question)
            for path in video_paths(question.messages):
                if path not in question.clips:
                    shower(question.view).expect(path)
        if not waiting:
            break
        yield waiting.popleft()
    for error in wrong:
        raise error
