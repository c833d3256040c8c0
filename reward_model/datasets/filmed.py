"""Readers of data sets of filmed pictures and videos with one mean opinion score each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_model.datasets.files import (
    MediaFolder,
    Row,
    Scores,
    label_lines,
    required,
    rows,
    tables,
)
from reward_model.datasets.items import Reading, ScoredClip, Split
from videoduet.errors import InputError
from videoduet.video import IMAGES, VIDEOS

PERCENT, LIKERT = (0.0, 100.0), (1.0, 5.0)


@dataclass(frozen=True)
class Labels:
    """A file of labels: its name (a pattern), the columns of the video's name and of its score, and their scale.

    ``ids`` says that the column holds an id, which more may follow in the names of files, after an underscore.
    """

    pattern: str
    video: str
    score: str
    scale: tuple[float, float]
    ids: bool = False


@dataclass(frozen=True)
class Filmed:
    """How a data set is published: its own label files, in the order in which they are looked for.

    After those come the lists that video quality papers share: VQAThinker's ``*_score.json`` (annotations of image_id
    and score) and DOVER's ``labels.txt`` (path, -1, -1, mos), whose scales are ``shared_scale`` and that of the paper.
    """

    name: str
    labels: tuple[Labels, ...]
    scale: tuple[float, float]
    image: bool = False


def read_filmed(spec: Filmed, folder: Path, split: Split) -> Reading:
    """The clips of a data set that is not split."""
    media = MediaFolder(folder, IMAGES if spec.image else VIDEOS)
    labels, path = _label_file(spec, folder)
    return _reading(spec, split, labels, rows_of(labels, path), media)


def _label_file(spec: Filmed, folder: Path) -> tuple[Labels, Path]:
    shared = (
        Labels("*_score.json", "image_id", "score", PERCENT),
        Labels("labels.txt", "video", "mos", spec.scale),
    )
    candidates = (*spec.labels, *shared)
    for labels in candidates:
        if found := tables(folder, labels.pattern):
            return labels, found[0]
    required(spec.name, folder, *(labels.pattern for labels in candidates))
    raise AssertionError("required() raises where nothing is found")


def rows_of(labels: Labels, path: Path) -> list[Row]:
    """The rows of a label file, whichever of the formats it is in."""
    if path.suffix.lower() == ".txt":
        return list(label_lines(path, ",", ("video", "first_frame", "last_frame", "mos")))
    return rows(path, (labels.video, labels.score))


def _reading(spec: Filmed, split: str, labels: Labels, found: Sequence[Row], media: MediaFolder) -> Reading:
    clips: list[ScoredClip] = []
    scores = Scores(labels.scale)
    for row in found:
        if (score := scores.read(row, {"overall": labels.score})) is None:
            continue
        if (video := media.find(row[labels.video], is_id=labels.ids)) is not None:
            clips.append(ScoredClip(path=video, scores=score, image=spec.image))
    return Reading(spec.name, split, clips, labels.scale, media.missing, scores.left_out)


KONIQ = Filmed(
    "KonIQ-10k",
    (
        Labels("koniq10k_distributions_sets.csv", "image_name", "MOS", PERCENT),
        Labels("koniq10k_scores_and_distributions.csv", "image_name", "MOS_zscore", PERCENT),
    ),
    PERCENT,
    image=True,
)
_KONIQ_SETS = {"train": "training", "validation": "validation", "test": "test"}


def read_koniq(folder: Path, split: Split) -> Reading:
    """KonIQ-10k (Hosu et al. 2020): 10,073 images, split 7,058 / 1,000 / 2,015 by ``koniq10k_distributions_sets.csv``.

    The scores alone (``koniq10k_scores_and_distributions.csv``, MOS_zscore in 0-100) can be read as split 'all'.
    """
    labels, path = _label_file(KONIQ, folder)
    found = rows_of(labels, path)
    if split != "all":
        if "set" not in found[0]:
            raise InputError(
                f"KonIQ-10k: {path} says nothing of splits; put {KONIQ.labels[0].pattern} beside it, or read 'all'."
            )
        found = [row for row in found if row["set"] == _KONIQ_SETS[split]]
    return _reading(KONIQ, split, labels, found, MediaFolder(folder, IMAGES))


_LSVQ_DOVER = {"train": "train_labels.txt", "test": "labels_test.txt", "test_1080p": "labels_1080p.txt"}
LSVQ = Filmed("LSVQ", (), PERCENT)


def read_lsvq(folder: Path, split: Split) -> Reading:
    """LSVQ (Ying et al. 2021): 28,056 training, 7,182 test and 3,573 test-1080p videos, scores 0-100.

    ``labels_train_test.csv`` (name, mos, is_test) and ``labels_test_1080p.csv`` of its authors, or DOVER's label files.
    """
    pattern = "labels_test_1080p.csv" if split == "test_1080p" else "labels_train_test.csv"
    if split == "all":
        raise InputError("LSVQ has no split 'all'; take train, test or test_1080p.", exit_code=2)
    (path, *_) = required("LSVQ", folder, pattern, _LSVQ_DOVER[split])
    labels = Labels(path.name, "name" if path.suffix.lower() == ".csv" else "video", "mos", PERCENT)
    found = rows_of(labels, path)
    if pattern == path.name == "labels_train_test.csv":
        rows(path, ("is_test",))
        found = [row for row in found if _true(row) == (split == "test")]
    return _reading(LSVQ, split, labels, found, MediaFolder(folder))


def _true(row: Row) -> bool:
    value = row["is_test"].strip().lower()
    if value not in ("true", "1", "1.0", "false", "0", "0.0"):
        raise InputError(f"{row.place}: is_test is {row['is_test']!r}, not True or False; repair or remove the row.")
    return value in ("true", "1", "1.0")


FILMED = {
    "konvid_1k": Filmed(
        "KoNViD-1k",
        (
            Labels("KoNViD_1k_attributes.csv", "file_name", "MOS", LIKERT),
            Labels("KoNViD_1k_mos.csv", "flickr_id", "mos", LIKERT, ids=True),
        ),
        LIKERT,
    ),
    "live_vqc": Filmed("LIVE-VQC", (Labels("data.mat", "video_list", "mos", PERCENT),), PERCENT),
    "youtube_ugc": Filmed("YouTube-UGC", (Labels("*.csv", "vid", "MOSFull", LIKERT),), LIKERT),
    "live_yt_gaming": Filmed("LIVE-YT-Gaming", (Labels("*.csv", "name", "mos", PERCENT),), PERCENT),
    "cgvds": Filmed("CGVDS", (Labels("*.csv", "name", "mos", PERCENT),), PERCENT),
    "live_yt_hfr": Filmed("LIVE-YT-HFR", (Labels("*.csv", "name", "mos", PERCENT),), PERCENT),
    "vdpve": Filmed("VDPVE", (Labels("*.csv", "name", "mos", PERCENT),), PERCENT),
}


def read_waterloo(folder: Path, split: Split) -> Reading:
    """Waterloo IVC 4K (Li et al. 2019): 1,200 videos, ``scores.txt`` of encoder, content, resolution, level, MOS 0-100.

    A row's video is called ``HEVC_1_540p_1``; as the raw videos cannot be played, encode them to mp4 under that name.
    """
    spec = Filmed("Waterloo-IVC-4K", (), PERCENT)
    if not tables(folder, "scores.txt"):
        return read_filmed(spec, folder, split)
    (path, *_) = tables(folder, "scores.txt")
    columns = ("encoder", "content", "resolution", "level", "mos")
    found = [
        Row({"video": "_".join(row[name] for name in columns[:4]), "mos": row["mos"]}, row.place)
        for row in label_lines(path, ",", columns)
    ]
    labels = Labels("scores.txt", "video", "mos", PERCENT)
    return _reading(spec, split, labels, found, MediaFolder(folder))


def read_finevd_scores(folder: Path, split: Split) -> Reading:
    """FineVD (Duan et al. 2025): overall scores, 0-100, in the JSON Lines that FineVQ trains on.

    A file named after its split, such as ``finevd_train_mos1.jsonl``, with rows of video, mos and a conversation.
    """
    (path, *_) = required("FineVD", folder, f"*{split}*mos*.jsonl")
    labels, spec = Labels(path.name, "video", "mos", PERCENT), Filmed("FineVD", (), PERCENT)
    return _reading(spec, split, labels, rows_of(labels, path), MediaFolder(folder))
