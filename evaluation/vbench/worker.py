"""Runs the real vbench package on one job; executed by the Python of an environment of its own, never imported here.

    ENVIRONMENT/bin/python -I worker.py JOB.json

The job names its ``kind``, its ``answer`` file and the folder of ``weights``:

- ``check``: import the code of each of ``dimensions``; answers ``dimensions`` (None, or why not) and ``versions``.
- ``score``: score ``dimension`` on ``rows`` (``prompt_en``, ``video_list``, ``auxiliary_info``); answers the package's
  own ``score`` and ``videos``.
- ``static``: of each of ``rows`` find the first ``wanted`` videos that stand still; answers ``static``.

A failure is answered as ``error``. Python 3.10 and the package's dependencies are all that this file may need.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

LIBRARIES = ("vbench", "torch", "torchvision", "numpy", "transformers", "timm", "decord", "opencv-python-headless",
             "openai-clip", "pyiqa", "detectron2")  # fmt: skip


def prepare(weights: Path) -> None:
    """Mend what keeps vbench 0.1.5 from loading, without touching its files."""
    import torch

    location = Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
    if torch.version.cuda is None and any(b"libcudart" in file.read_bytes() for file in location.glob("_C*.so")):
        # A torchvision built for CUDA beside a torch without: its operators are absent, and their absence stops the
        # import. Naming them lets it pass; only detection would call them.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        importlib.import_module("numpy.lib.function_base")
    except ModuleNotFoundError:
        # UMT's data set imports a function of it that it never calls, and that numpy 2 has not.
        module = types.ModuleType("numpy.lib.function_base")
        module.disp = print
        sys.modules["numpy.lib.function_base"] = module
    # The package would fetch this list of words on import; openai-clip has the same one.
    vocabulary = weights / "ViCLIP" / "bpe_simple_vocab_16e6.txt.gz"
    if not vocabulary.exists():
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        clip = Path(importlib.util.find_spec("clip").submodule_search_locations[0])
        temporary = vocabulary.with_name(f".{os.getpid()}.tmp")
        shutil.copy(clip / vocabulary.name, temporary)
        os.replace(temporary, vocabulary)
    # DINO's own loader knows torch.hub's folder alone, not the path that the package names.
    checkpoints = weights / "torch_home" / "hub" / "checkpoints"
    dino = weights / "dino_model" / "dino_vitbase16_pretrain.pth"
    if dino.exists() and not (checkpoints / dino.name).exists():
        checkpoints.mkdir(parents=True, exist_ok=True)
        (checkpoints / dino.name).symlink_to(dino)
    os.environ["TORCH_HOME"] = str(weights / "torch_home")


def versions() -> dict[str, Any]:
    """Python's version and those of the libraries that count, by name."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check(job: dict[str, Any]) -> dict[str, Any]:
    """``dimensions``: None, or why its code cannot be imported; and ``versions``."""
    reasons = {}
    for dimension in job["dimensions"]:
        try:
            importlib.import_module(f"vbench.{dimension}")
            reasons[dimension] = None
        except Exception as error:
            traceback.print_exc()
            reasons[dimension] = f"{type(error).__name__}: {error}"
    return {"dimensions": reasons, "versions": versions()}


def score(job: dict[str, Any]) -> dict[str, Any]:
    """The package's own ``score`` of a dimension, its ``videos`` with results and weights, ``versions``, ``device``."""
    import torch
    import vbench

    if job.get("trust_pickles"):
        os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    dimension, device = job["dimension"], torch.device("cuda" if torch.cuda.is_available() else "cpu")

    class Listed(vbench.VBench):
        """The package's evaluation of videos that are listed, instead of looked for in a folder by their names."""

        def build_full_info_json(self, videos_path, name, dimension_list, *arguments, **options):
            path = Path(self.output_path) / f"{name}_full_info.json"
            path.write_text(json.dumps([{**row, "dimension": dimension_list} for row in rows]), encoding="utf-8")
            return str(path)

    with tempfile.TemporaryDirectory() as scratch:
        rows, original = (
            named_by_prompt(job["rows"], Path(scratch)) if dimension == "human_action" else (job["rows"], {})
        )
        evaluation = Listed(device, "", scratch)
        # Without gradients, which some dimensions forget to turn off: scene would need some 20 GB for them.
        with torch.no_grad(), failures_told(dimension):
            evaluation.evaluate("", "result", dimension_list=[dimension], local=True, mode="custom_input")
        value, videos = json.loads((Path(scratch) / "result_eval_results.json").read_text(encoding="utf-8"))[dimension]
    results = [
        {
            "video_path": original.get(video["video_path"], video["video_path"]),
            "video_results": video["video_results"],
            # What the video counts in the package's average: its frames, where that is over frames.
            "weight": len(video.get("frame_results", ()))
            or video.get("cnt_per_video")
            or video.get("frame_count")
            or 1,
        }
        for video in videos
    ]
    return {"score": value, "videos": results, "versions": versions(), "device": device.type}


@contextlib.contextmanager
def failures_told(dimension: str):
    """object_class takes a frame whose detection fails, for want of memory say, for one without objects: raise it."""
    if dimension != "object_class":
        yield
        return
    from vbench.third_party.grit_model import DenseCaptioning

    detect, failures = DenseCaptioning.run_caption_tensor, []

    def watched(self, frame):
        try:
            return detect(self, frame)
        except Exception as error:
            failures.append(error)
            raise

    DenseCaptioning.run_caption_tensor = watched
    yield
    if failures:
        raise failures[0]


def named_by_prompt(rows: list[Any], folder: Path) -> tuple[Any, ...]:
    """``rows`` with links that are called as human_action expects, which reads the action from a file's name, and the
    paths that they stand for. Files called so already are left as they are.
    """
    linked, original = [], {}
    for row in rows:
        paths = []
        for path in row["video_list"]:
            if not Path(path).name.startswith(row["prompt_en"]):
                # What no action contains may go: such a prompt has no label to match.
                name = re.sub(r"[/\0]", " ", row["prompt_en"]).encode()[:200].decode(errors="ignore")
                link = folder / f"{name}-{len(original)}.mp4"
                link.symlink_to(path)
                original[str(link)] = path
                path = str(link)
            paths.append(path)
        linked.append({**row, "video_list": paths})
    return linked, original


def static(job: dict[str, Any]) -> dict[str, Any]:
    """The official filter before temporal flickering (VBench, ``static_filter.py``), also without CUDA.

    A video moves where the mean of the 2 % largest flows between neighbours exceeds 3 pixels (at 256 pixels of the
    shorter side) more than n/8 times, or a flow between its first and last frame n/4 times that.
    """
    import torch
    from easydict import EasyDict
    from vbench.dynamic_degree import DynamicDegree, InputPadder

    class StaticFilter(DynamicDegree):
        largest = 0.02

        def extract_frame(self, frame_list, interval=1):
            return frame_list

        def flow(self, first, second):
            first, second = InputPadder(first.shape).pad(first, second)
            _, flow = self.model(first, second, iters=20, test_mode=True)
            radius = flow[0].square().sum(0).sqrt().flatten()
            return radius.topk(max(1, int(radius.numel() * self.largest))).values.mean().item()

        @torch.no_grad()
        def stands_still(self, path):
            frames = self.get_frames(path)
            limit, count = 3.0 * min(frames[0].shape[-2:]) / 256.0, round(2 * len(frames) / 16.0)
            if sum(self.flow(a, b) > limit for a, b in itertools.pairwise(frames)) > count:
                return False
            ends = (self.flow(frames[0], frames[-1]), self.flow(frames[-1], frames[0]))
            return all(flow <= limit * count * 2 for flow in ends)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Path(job["weights"]) / "raft_model" / "models" / "raft-things.pth"
    options = EasyDict({"model": str(model), "small": False, "mixed_precision": False, "alternate_corr": False})
    judge, kept = StaticFilter(options, device), {}
    for row in job["rows"]:
        found = []
        for path in row["video_list"]:
            if len(found) < job["wanted"] and judge.stands_still(path):
                found.append(path)
        kept[row["prompt_en"]] = found
    return {"static": kept}


def main() -> None:
    """Run the job that the command line names, and write its answer."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        prepare(Path(job["weights"]))
        answer = {"check": check, "score": score, "static": static}[job["kind"]](job)
    except Exception as error:
        traceback.print_exc()
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
    temporary = Path(f"{job['answer']}.tmp")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    os.replace(temporary, job["answer"])


if __name__ == "__main__":
    main()
