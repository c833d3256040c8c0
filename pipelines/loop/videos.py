"""The videos of a run that can be read: each file is looked into once, and what is damaged is quarantined."""

from pathlib import Path

from videoduet.errors import in_words
from videoduet.records import Sample
from videoduet.video import read_video, written
from videoduet.workspace import Workspace


class RoundVideos:
    """Samples of a run with absolute paths, without those in quarantine."""

    def __init__(self, directory: Workspace):
        self.directory = directory
        self._readable: dict[tuple[str, tuple[int, int] | None], bool] = {}

    def samples(self, folder: Path, version: str = "*") -> list[Sample]:
        """The readable samples in ``folder`` (of one generator version), in the order of prompt id and index."""
        from generators.sampling import read_samples

        found = read_samples(folder, version, root=self.directory.root)
        quarantined = self.directory.quarantined()
        return [s for s in found if s.video_path not in quarantined and self._can_be_read(s.video_path)]

    def _can_be_read(self, path: str) -> bool:
        key = (path, written(path))
        if key not in self._readable:
            try:
                read_video(path, 1)
                self._readable[key] = True
            # Whatever is wrong with one file, the round goes on with the others.
            except Exception as error:
                self.directory.quarantine(path, in_words(error))
                self._readable[key] = False
        return self._readable[key]
