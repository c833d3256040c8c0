"""What can be set about the processing of ratings."""

from dataclasses import dataclass
from typing import Literal

from videoduet.config import execution, identity, required
from videoduet.errors import InputError

Screening = Literal["none", "bt500"]


@dataclass(frozen=True, kw_only=True)
class RatingsConfig:
    """Make mean opinion scores of raw ratings.

    Attributes:
        ratings: A CSV, TSV, JSON, JSON Lines or parquet file with columns subject and video, and either rating (and
            perhaps dimension) or a column for each dimension; prompt and model may say more of a video.
        output: Where MOS.csv, splits.json and results.json go.
        scale: The lowest and the highest rating that can be given; rows off it are listed and left out.
        screening: Who is left out: none, or the subjects that ITU-R BT.500 rejects (bt500), by dimension.
        dimensions: Columns that are dimensions (none: every column that is not about the subject or the video).
        seed: Seed of the ten random splits.
    """

    ratings: str = identity("")
    output: str = execution("")
    scale: tuple[float, float] = identity((1.0, 5.0))
    screening: Screening = identity("none")
    dimensions: list[str] = identity(factory=list)
    seed: int = identity(0)

    def __post_init__(self) -> None:
        required(self, "ratings", "output")
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)
