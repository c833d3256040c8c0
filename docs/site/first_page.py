"""The moving picture of the first page: base above aligned, from the same noise, of a finished run.

    python docs/site/first_page.py runs/shapes_world docs/images/base_and_aligned.gif

It shows the held-out prompts in their own order, the first video of each: none is picked.
"""

import argparse
import json
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videoduet.records import Prompt, Sample
from videoduet.store import read_records, write_bytes
from videoduet.video import animated, read_video

PROMPTS, SIDE, GAP, WORDS, MARGIN = 6, 120, 6, 44, 62
"""Prompts shown; pixels of a video's longer side, between videos, below them for words, and left of them."""
LARGEST = 400_000
"""Bytes that a page may take for it."""
INK, PAPER = (32, 33, 36), (255, 255, 255)


def cases(run: Path) -> tuple[str, list[tuple[str, Path, Path]]]:
    """The version that a run keeps, and of its first held-out prompts the words and both videos."""
    choice = run / "final" / "choice.json"
    samples = read_records(Sample, *sorted((run / "score").glob("samples_*.parquet")), root=run.absolute())
    versions = sorted({sample.generator for sample in samples}, key=lambda name: int(name.removeprefix("G_")))
    kept = json.loads(choice.read_text(encoding="utf-8"))["version"] if choice.exists() else versions[-1]
    videos = {(sample.generator, sample.prompt_id): Path(sample.video_path) for sample in samples if sample.index == 0}
    prompts = read_records(Prompt, run / "score" / "prompts.parquet")
    sides = [(prompt.text, videos.get(("G_0", prompt.id)), videos.get((kept, prompt.id))) for prompt in prompts]
    return kept, [(text, base, new) for text, base, new in sides if base and new and base.exists() and new.exists()]


def enlarged(path: Path) -> tuple[list[Image.Image], float]:
    """The frames of a video, large enough to look at, and the seconds of each."""
    clip = read_video(path)
    height, width = clip.frames.shape[1:3]
    factor = SIDE / max(height, width)
    size = (round(width * factor), round(height * factor))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return [Image.fromarray(frame).resize(size, how) for frame in clip.frames], clip.spacing


def drawn(shown: list[tuple[str, Path, Path]]) -> tuple[list[np.ndarray], int]:
    """The frames of the picture, and the milliseconds of each."""
    columns = [(text, enlarged(base), enlarged(new)) for text, base, new in shown]
    width, height = columns[0][1][0][0].size
    size = (MARGIN + len(columns) * (width + GAP), 2 * (height + GAP) + WORDS)
    font = ImageFont.load_default(11)
    frames: list[np.ndarray] = []
    for place in range(min(len(side[0]) for _, *sides in columns for side in sides)):
        page = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(page)
        for row, name in enumerate(("base", "aligned")):
            pen.text((0, row * (height + GAP) + height // 2 - 6), name, INK, ImageFont.load_default(14))
        for column, (text, *sides) in enumerate(columns):
            left = MARGIN + column * (width + GAP)
            for row, (images, _) in enumerate(sides):
                page.paste(images[place], (left, row * (height + GAP)))
            words = "\n".join(textwrap.wrap(text, round(width / 6.6))[:3])
            pen.multiline_text((left, 2 * (height + GAP)), words, INK, font, spacing=2)
        # Few colours are few bytes, and shapes have few.
        frames.append(np.asarray(page.quantize(96, dither=Image.Dither.NONE).convert("RGB")))
    return frames, round(1000 * columns[0][1][1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    kept, found = cases(options.run)
    if not found:
        raise SystemExit(f"{options.run} has no held-out videos of its base and of what it keeps.")
    frames, milliseconds = drawn(found[:PROMPTS])
    data = animated(frames, milliseconds, "gif")
    if len(data) > LARGEST:
        raise SystemExit(f"The picture has {len(data):,} bytes, and a page takes {LARGEST:,}; show fewer prompts.")
    write_bytes(options.output, data)
    print(f"{options.output}: G_0 above {kept}, {len(frames)} frames, {len(data):,} bytes")


if __name__ == "__main__":
    main()
