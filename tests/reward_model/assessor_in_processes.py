"""Two stages of AIGV-Assessor, in as many processes as are started: scores, and on what these leave, pairs."""

import sys
from pathlib import Path

from accelerate import PartialState
from test_assessor_training import config, paired, scored

from reward_model.training.stage import train_stage


def main(judge: str, clips: str, output: str) -> None:
    PartialState(cpu=True)
    videos = sorted(map(str, Path(clips).glob("*.mp4")))
    at = Path(judge)
    for stage, data in (("scores", scored(videos)), ("pairs", paired(videos))):
        at = train_stage(config(stage, at, Path(output) / stage), [data]).path


if __name__ == "__main__":
    main(*sys.argv[1:])
