"""Readers of data sets of questions about a video's quality."""

from pathlib import Path

from reward_model.datasets.files import MediaFolder, Row, required, rows
from reward_model.datasets.items import QuestionItem, Reading, Split
from videoduet.errors import InputError
from videoduet.tables import read_lines

YES_NO = ("yes", "no")
DISTORTIONS = {"color": "color", "noise": "noise", "artifact": "artifact", "blur": "blur", "temporal": "temp"}
"""FineVD's distortions, and what they are called in the names of its files."""


def read_vision_reward_questions(folder: Path, split: Split) -> Reading:
    """VisionRewardDB-Video (Xu et al. 2024): yes/no checks of single videos, its configuration ``train``.

    ``meta_qa_en.txt`` has a question a line; a row's ``meta_result`` answers all of them, 1 for yes, and those where
    ``meta_mask`` is 1 count.
    """
    (checks, *_) = required("VisionRewardDB-Video", folder, "meta_qa_en.txt")
    questions = [line.strip() for line in read_lines(checks) if line.strip()]
    media = MediaFolder(folder)
    items: list[QuestionItem] = []
    for path in required("VisionRewardDB-Video", folder, "train/*.parquet"):
        for row in rows(path, ("video_path", "prompt", "meta_result", "meta_mask")):
            if (file := media.find(row["video_path"])) is None:
                continue
            results, mask = row["meta_result"], row["meta_mask"]
            if not len(results) == len(mask) == len(questions):
                raise InputError(
                    f"{row.place}: {len(results)} answers to the {len(questions)} questions of {checks.name}."
                )
            items += [
                QuestionItem(
                    paths=(file,),
                    question=question.replace("[[prompt]]", row["prompt"]),
                    options=YES_NO,
                    answer="yes" if result == 1 else "no",
                    kind="check",
                )
                for question, result, counts in zip(questions, results, mask, strict=True)
                if counts == 1
            ]
    return Reading("VisionRewardDB-Video questions", split, items, missing=media.missing)


def read_finevd(folder: Path, split: Split) -> Reading:
    """FineVD (Duan et al. 2025), distortion attribution: is there noise, blur, … in this video?

    The five ``yesno_test_*.jsonl`` of FineVQ: a video and a conversation whose answer is Yes or No.
    """
    media = MediaFolder(folder)
    items: list[QuestionItem] = []
    for distortion, name in DISTORTIONS.items():
        (path, *_) = required("FineVD", folder, f"yesno_test_{name}.jsonl")
        for row in rows(path, ("video", "conversations")):
            question, answer = (turn["value"] for turn in row["conversations"])
            if answer.strip().lower() not in YES_NO:
                raise InputError(f"{row.place}: an answer is {answer!r}, not Yes or No.")
            if (file := media.find(row["video"])) is not None:
                items.append(
                    QuestionItem(
                        paths=(file,), question=question, options=YES_NO, answer=answer.strip().lower(), kind=distortion
                    )
                )
    return Reading("FineVD", split, items, missing=media.missing)


def read_q_bench_video(folder: Path, split: Split) -> Reading:
    """Q-Bench-Video (Zhang et al. 2025): multiple choice on one video or two; open questions are left out, and counted.

    ``Q_Bench_Video_dev.json``: video_name (two joined by _cat_), question, question_type, answers, correct_choice (a
    letter). The test file holds no right answers, so only the dev file can be scored here. ``context`` says what a
    question about a single video is about: Global or Referring.
    """
    (path, *_) = required("Q-Bench-Video", folder, "Q_Bench_Video_dev.json", "Q_Bench_Video*.json")
    media, open_ended = MediaFolder(folder), 0
    items: list[QuestionItem] = []
    for row in rows(path, ("video_name", "question", "question_type")):
        if "open_ended" in row["question_type"]:
            open_ended += 1
            continue
        for column in ("answers", "correct_choice"):
            if column not in row:
                raise InputError(
                    f"{row.place}: there is no column {column}; take the dev file, which tells the answers."
                )
        first, joined, second = row["video_name"].partition("_cat_")
        # Both names keep their suffix, and the joined name gets one more.
        names = (first, second.rsplit(".", 1)[0]) if joined else (first,)
        files = [media.find(name) for name in names]
        paths = tuple(file for file in files if file is not None)
        if len(paths) < len(files):
            continue
        letters = tuple("ABCDEFGH"[: len(row["answers"])])
        choices = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, row["answers"], strict=True))
        answer = str(row["correct_choice"]).strip(" .()")[:1]
        if answer not in letters:
            raise InputError(f"{row.place}: the right choice of {row['question']!r} is {row['correct_choice']!r}.")
        items.append(
            QuestionItem(
                paths=paths,
                question=f"{row['question']}\n{choices}",
                options=letters,
                answer=answer,
                kind=str(row["question_type"]),
                groups=("two videos",) if joined else (*_context(row), "single videos"),
            )
        )
    reading = Reading("Q-Bench-Video", split, items, missing=media.missing)
    if open_ended:
        reading.left_out["open questions, which have no options"] = open_ended
    return reading


def _context(row: Row) -> tuple[str, ...]:
    """The field ``context`` of a question about a single video, in the paper's two words; () where it is another."""
    told = str(row["context"]).lower() if "context" in row else ""
    return tuple(name for name in ("global", "referring") if name in told)
