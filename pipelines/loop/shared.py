"""A run's videos, verdicts and pairs as a data set for others, and such data sets put together.

Three tables, each a configuration that ``datasets.load_dataset(folder, name)`` loads: ``videos`` (each once, its bytes
inside), ``comparisons`` (records) and ``pairs``, which name videos by their ids, the hashes of their content. So the
same video drawn by two runs, and the same opinion of the same judge about the same two, are kept once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from videoduet.errors import InputError
from videoduet.progress import track
from videoduet.records import Comparison, PreferencePair, Prompt, Sample
from videoduet.store import atomic_path, content_hash, read_records, whole_file, write_bytes, write_records

VIDEOS, COMPARISONS, PAIRS = "videos.parquet", "comparisons.parquet", "pairs.parquet"
AT_ONCE = 32
"""Videos held in memory while they are written."""
CARD = """---
pretty_name: Videos and a judge's verdicts
task_categories:
- text-to-video
tags:
- videoduet
- preferences
configs:
- config_name: pairs
  data_files: pairs.parquet
  default: true
- config_name: comparisons
  data_files: comparisons.parquet
- config_name: videos
  data_files: videos.parquet
---

# Videos and a judge's verdicts

{videos} videos of {prompts} prompts, {comparisons} comparisons by {judges} judges, {pairs} preference pairs, from
VideoDuet.

| table | columns |
|---|---|
| `videos` | `id`, `prompt`, `generator` (version, `G_0` is the base), `seed`, `video` |
| `comparisons` | which two were compared by which judge, its words in both orders, `status` |
| `pairs` | `prompt`, `chosen_id`, `rejected_id`, `margin`, `score` |

```python
from datasets import load_dataset

pairs = load_dataset("this/directory", "pairs", split="train")
```

`python -m pipelines.train_generator --data this/directory` learns from the pairs; as a judge,
`reward_model.judging.recorded.RecordedJudge` gives the verdicts back. Videos and words are the models'
that made them: their licences hold.
"""


@dataclass
class Shared:
    """What is shared: rows and records by what makes them the same; ``files`` has each video's file, or its table."""

    videos: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    pairs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add_run(self, root: Path) -> None:
        """Add what a run holds: videos that are still there as they were drawn, and what was said about those."""
        prompts = {
            prompt.id: prompt.text
            for name in ("prompts.parquet", "score/prompts.parquet")
            if (root / name).exists()
            for prompt in read_records(Prompt, root / name)
        }
        for sample in read_records(Sample, *sorted(root.glob("**/samples_*.parquet")), root=root.absolute()):
            file = Path(sample.video_path)
            if sample.id in self.videos or not file.is_file() or content_hash(file) != sample.id:
                continue
            row = {"prompt": prompts.get(sample.prompt_id, ""), "generator": sample.generator, "seed": sample.seed}
            self.videos[sample.id] = {"id": sample.id, **row}
            self.files[sample.id] = file
        self._add_opinions(read_records(Comparison, *sorted(root.glob("**/comparisons_*.parquet"))))
        for pair in read_records(PreferencePair, *sorted(root.glob("**/pairs.parquet"))):
            text = prompts.get(pair.prompt_id, "")
            row = {"chosen_id": pair.chosen_id, "rejected_id": pair.rejected_id, "margin": pair.margin}
            self._add_pair({"prompt": text, **row, "score": pair.score})

    def add_folder(self, folder: Path) -> None:
        """Add another such data set."""
        with whole_file(folder / VIDEOS):
            for row in pq.read_table(folder / VIDEOS, columns=["id", "prompt", "generator", "seed"]).to_pylist():
                if row["id"] not in self.videos:
                    self.videos[row["id"]], self.files[row["id"]] = row, folder / VIDEOS
        self._add_opinions(read_records(Comparison, folder / COMPARISONS))
        with whole_file(folder / PAIRS):
            for row in pq.read_table(folder / PAIRS).to_pylist():
                self._add_pair(row)

    def _add_opinions(self, comparisons: Iterable[Comparison]) -> None:
        for comparison in comparisons:
            if {comparison.first_id, comparison.second_id} <= self.videos.keys():
                self.comparisons.setdefault(comparison.id, comparison)

    def _add_pair(self, row: dict[str, Any]) -> None:
        if {row["chosen_id"], row["rejected_id"]} <= self.videos.keys():
            self.pairs.setdefault((row["chosen_id"], row["rejected_id"]), row)

    def write(self, output: Path) -> None:
        """Write the data set, whole or not at all."""
        with atomic_path(output) as temporary:
            temporary.mkdir()
            self._write_videos(temporary / VIDEOS)
            write_records(temporary / COMPARISONS, self.comparisons.values(), Comparison)
            pq.write_table(pa.Table.from_pylist(list(self.pairs.values()), schema=PAIR_COLUMNS), temporary / PAIRS)
            counts = {
                "videos": len(self.videos),
                "prompts": len({row["prompt"] for row in self.videos.values()}),
                "comparisons": len(self.comparisons),
                "judges": len({comparison.judge_id for comparison in self.comparisons.values()}),
                "pairs": len(self.pairs),
            }
            write_bytes(temporary / "README.md", CARD.format(**counts).encode())

    def _write_videos(self, path: Path) -> None:
        # Only here: it takes seconds.
        from datasets import Features, Value, Video

        columns = {"id": Value("string"), "prompt": Value("string"), "generator": Value("string")}
        schema = Features({**columns, "seed": Value("int64"), "video": Video()}).arrow_schema
        found = iter(track(self._with_bytes(), "videos", total=len(self.videos)))
        with pq.ParquetWriter(path, schema) as writer:
            while rows := list(islice(found, AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    def _with_bytes(self) -> Iterator[dict[str, Any]]:
        tables = {file for file in self.files.values() if file.suffix == ".parquet"}
        for table in sorted(tables):
            for identifier, data in stored_videos(table):
                if self.files.get(identifier) == table:
                    yield self._row(identifier, data)
        for identifier, file in self.files.items():
            if file not in tables:
                yield self._row(identifier, file.read_bytes())

    def _row(self, identifier: str, data: bytes) -> dict[str, Any]:
        return {**self.videos[identifier], "video": {"bytes": data, "path": f"{identifier}.mp4"}}


PAIR_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("prompt", "chosen_id", "rejected_id")]
    + [(name, pa.float64()) for name in ("margin", "score")]
)


def stored_videos(table: Path) -> Iterator[tuple[str, bytes]]:
    """Ids and bytes of the videos in the table ``videos`` of a data set, a few at a time."""
    with whole_file(table), pq.ParquetFile(table) as file:
        for batch in file.iter_batches(AT_ONCE, columns=["id", "video"]):
            for row in batch.to_pylist():
                yield row["id"], row["video"]["bytes"]


def share(sources: Sequence[str], output: Path) -> Shared:
    """Put runs and data sets of this kind together in the folder ``output``.

    Raises InputError where a source is neither, or ``output`` is there already.
    """
    if output.exists():
        raise InputError(f"{output} is there already; give another --output, or move it away.", exit_code=2)
    shared = Shared()
    for source in map(Path, sources):
        if (source / "config.yaml").is_file():
            shared.add_run(source)
        elif (source / VIDEOS).is_file():
            shared.add_folder(source)
        else:
            raise InputError(f"{source} is neither a run (config.yaml) nor a shared data set ({VIDEOS}).", exit_code=2)
    if not shared.videos:
        raise InputError(f"{', '.join(sources)} hold no video; there is nothing to share.")
    shared.write(output)
    return shared
