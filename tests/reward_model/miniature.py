"""Miniatures of public data sets, in the formats they are published in, around a few real videos and images."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from scipy.io import savemat

VIDEOS = 10
SCORES = np.linspace(1.2, 4.7, VIDEOS).round(3)
PERCENT = np.linspace(12.0, 88.0, VIDEOS).round(2)
PROMPTS = [f"a red circle, number {index}" for index in range(VIDEOS)]


def place(folder: Path, clips: Sequence[Path], names: Sequence[str]) -> None:
    """Copies of ``clips``, over and over, under ``names`` below ``folder``."""
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clips[index % len(clips)], folder / name)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows([columns, *rows])


def write_parquet(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def write_jsonl(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def koniq(folder: Path, clips: Sequence[Path]) -> None:
    for index in range(VIDEOS):
        (folder / "1024x768").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 32, 3), 20 * index, np.uint8)).save(folder / "1024x768" / f"{index}.jpg")
    sets = ["training"] * 6 + ["validation"] * 2 + ["test"] * 2
    rows = [[f"{index}.jpg", PERCENT[index], 0.5, sets[index]] for index in range(VIDEOS)]
    write_csv(folder / "koniq10k_distributions_sets.csv", ("image_name", "MOS", "SD", "set"), rows)


def lsvq(folder: Path, clips: Sequence[Path]) -> None:
    # Two batches hold files of one name, as the real ones do; a name is in Chinese, and the labels are in GB18030.
    names = ["ia-batch1/视频", *(f"yfcc-batch{1 + index % 2}/{4000 + index // 2}" for index in range(1, VIDEOS))]
    place(folder, clips, [f"{name}.mp4" for name in names])
    columns = ("name", "height", "width", "mos", "frame_number", "is_test")
    rows = [[name, 32, 32, PERCENT[index], 8, index >= 7] for index, name in enumerate(names)]
    write_csv(folder / "labels_train_test.csv", columns, rows, encoding="gb18030")
    place(folder, clips, ["yfcc-batch9/1.mp4", "yfcc-batch9/2.mp4"])
    write_csv(folder / "labels_test_1080p.csv", ("name", "mos"), [["yfcc-batch9/1", 30], ["yfcc-batch9/2", 60]])


def lsvq_dover(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"yfcc-batch1/{index}.mp4" for index in range(VIDEOS)])
    lines = [f"yfcc-batch1/{index}.mp4, -1, -1, {PERCENT[index]}\n" for index in range(VIDEOS)]
    (folder / "train_labels.txt").write_text("".join(lines[:7]))
    (folder / "labels_test.txt").write_text("".join(lines[7:]))
    (folder / "labels_1080p.txt").write_text("".join(lines[8:]))


def konvid(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"KoNViD_1k_videos/{2000 + index}.mp4" for index in range(VIDEOS)])
    rows = [[2000 + index, SCORES[index], 0.3] for index in range(VIDEOS)]
    write_csv(folder / "KoNViD_1k_metadata" / "KoNViD_1k_mos.csv", ("flickr_id", "mos", "std"), rows)


def live_vqc(folder: Path, clips: Sequence[Path]) -> None:
    names = [f"A{index:03}.mp4" for index in range(VIDEOS)]
    place(folder, clips, [f"Video/{name}" for name in names])
    cells = np.array([[name] for name in names], dtype=object)
    savemat(folder / "data.mat", {"video_list": cells, "mos": PERCENT[:, None], "std": np.ones((VIDEOS, 1))})


def youtube_ugc(folder: Path, clips: Sequence[Path]) -> None:
    names = [f"Animation_1080P-{index:04}" for index in range(VIDEOS)]
    place(folder, clips, [f"{name}.mkv" for name in names])
    rows = [[name, SCORES[index]] for index, name in enumerate(names)]
    write_csv(folder / "original_videos_MOS.csv", ("vid", "MOSFull"), rows)


def annotated(folder: Path, clips: Sequence[Path]) -> None:
    """VQAThinker's form, in which scores are text."""
    names = [f"A{index:04}_01.mp4" for index in range(VIDEOS)]
    place(folder, clips, names)
    rows = [{"image_id": n, "ann_type": "score", "score": str(PERCENT[i])} for i, n in enumerate(names)]
    (folder / "train_score.json").write_text(json.dumps({"annotations": rows}))


def waterloo(folder: Path, clips: Sequence[Path]) -> None:
    levels = [("HEVC", 1 + index // 4, "540p", 1 + index % 4, PERCENT[index]) for index in range(VIDEOS)]
    place(folder, clips, ["_".join(map(str, level[:4])) + ".mp4" for level in levels])
    (folder / "scores.txt").write_text("".join(", ".join(map(str, level)) + "\n" for level in levels))


def lgvq(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index}.mp4" for index in range(VIDEOS)])
    columns = ("video", "prompt", "spatial", "temporal", "alignment")
    rows = [[f"{i}.mp4", PROMPTS[i], PERCENT[i], PERCENT[-1 - i], 50 + i] for i in range(VIDEOS)]
    write_csv(folder / "MOS.csv", columns, rows)


def video_feedback(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{1000000 + index}.mp4" for index in range(VIDEOS)])
    aspects = ("visual quality", "temporal consistency", "dynamic degree", "text-to-video alignment",
               "factual consistency")  # fmt: skip
    rows = [
        {"id": str(1000000 + i), "images": ["x"], "text prompt": PROMPTS[i], "video link": "https://x",
         **{aspect: 1 + (i + shift) % 4 for shift, aspect in enumerate(aspects)}}
        for i in range(VIDEOS)
    ]  # fmt: skip
    write_parquet(folder / "annotated" / "train-00000-of-00002.parquet", rows[:4])
    write_parquet(folder / "annotated" / "train-00001-of-00002.parquet", rows[4:8])
    write_parquet(folder / "annotated" / "test-00000-of-00001.parquet", rows[8:])


def t2vqa(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index:05}.mp4" for index in range(VIDEOS)])
    lines = [f"{index:05}.mp4|{PROMPTS[index]}|{PERCENT[index]}\n" for index in range(VIDEOS)]
    (folder / "info.txt").write_text("".join(lines))


def aigvqa(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"{100000 + index}.mp4" for index in range(VIDEOS)])
    for shift, name in enumerate(("static", "temporal", "dynamic", "alignment")):
        count = VIDEOS - (name == "dynamic")
        write_jsonl(folder / f"{name}.jsonl", [
            {"video": f"{100000 + i}.mp4", "id": f"{100000 + i}.mp4->{PERCENT[i] + shift}", "conversations": []}
            for i in range(count)
        ])  # fmt: skip


def aigvqa_as_released(folder: Path, clips: Sequence[Path]) -> None:
    """Models share the names of their videos, and rows name the authors' own disk."""
    names = [f"{model}/10000{index}.mp4" for model in ("floor33", "Gen-2") for index in range(5)]
    place(folder, clips, names)
    words = ("static quality", "temporal smoothness", "dynamic degree", "text-video correspondence")
    for number, word in enumerate(words, 1):
        rows = [
            {"video": f"/DATA/DATA1/wjr/dataset/sora/G1/{name}", "id": f"{Path(name).name}->{PERCENT[i] + number}",
             "conversations": [{"from": "human", "value": f"How would you rate the {word} of this video? "},
                               {"from": "gpt", "value": f"The {word} of the video is good."}]}
            for i, name in enumerate(names)
        ]  # fmt: skip
        write_jsonl(folder / f"mydata_mos{number}_train.jsonl", rows[:8])
        write_jsonl(folder / f"mydata_mos{number}_test.jsonl", rows[8:])
    write_csv(folder / "prompts.csv", ("video", "prompt"), [[f"10000{i}.mp4", PROMPTS[i]] for i in range(5)])


def aigvqa_pairs(folder: Path, clips: Sequence[Path]) -> None:
    names = [f"{model}/{index}.mp4" for model in ("Lavie", "Gen-2") for index in range(5)]
    place(folder, clips, names)
    answers = ("first", "second", "tie", "")
    rows = [[names[i], names[i + 5], PROMPTS[i], answers[i % 4], answers[(i + 1) % 3], answers[3]] for i in range(5)]
    columns = ("first", "second", "prompt", "static quality", "temporal smoothness", "dynamic degree")
    write_csv(folder / "pairs.csv", columns, rows)


def t2vqa_sora(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"sora/{index}.mp4" for index in range(VIDEOS)])
    lines = [f"{index}.mp4|{PROMPTS[index]}|{PERCENT[index]}\n" for index in range(VIDEOS)]
    (folder / "sora.txt").write_text("".join(lines))


def fetv(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"datas/videos/{m}/videos/{i}.mp4" for m in ("cogvideo", "modelscope-t2v") for i in range(5)])
    write_jsonl(folder / "fetv_data.json", [
        {"video_id": f"video{i}", "prompt": PROMPTS[i], "prompt complexity": ["simple"], "source": "MSRVTT",
         "major content": {"spatial": ["people"], "temporal": ["actions"]},
         "attribute control": {"spatial": None, "temporal": None}}
        for i in range(5)
    ])  # fmt: skip
    for human in range(3):
        (folder / "manual_eval_results" / f"human{human}").mkdir(parents=True)
        for model in ("cogvideo", "damo-text2video", "ground-truth"):
            write_jsonl(folder / "manual_eval_results" / f"human{human}" / f"manual_eval_results_{model}.json", [
                {str(i): {"video_id": f"video{i}", "static_quality": 1 + (i + human) % 5, "temporal_quality": 2,
                          "alignment": 5, "fine-grained_alignment": {"color": 3}}}
                for i in range(5)
            ])  # fmt: skip


def gaia(folder: Path, clips: Sequence[Path]) -> None:
    names = [f"{model}_{action}.mp4" for model in ("Anmidiff", "zeroScope") for action in ("Abseiling", "High Jump")]
    place(folder, clips, [f"videos/{name}" for name in names])
    columns = ("filename", "final action subject", "final action completeness", "final action interaction")
    write_csv(folder / "MOS.csv", columns, [[name, 49.0098, 46.9289, PERCENT[i]] for i, name in enumerate(names)])
    (folder / "prompts_all.csv").write_text("Action;Scene\nAbseiling;A man, roped, abseils.\nHigh Jump;He jumps.\n")


def own_ratings(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index}.mp4" for index in range(VIDEOS)])
    rows = [[f"{i}.mp4", PROMPTS[i], "ours", PERCENT[i], PERCENT[-1 - i]] for i in range(VIDEOS)]
    write_csv(folder / "MOS.csv", ("video", "prompt", "model", "static", "temporal"), rows)


def vision_reward(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index}.mp4" for index in range(VIDEOS)])
    pairs = [
        {"internal_id": str(i), "prompt": PROMPTS[i], "standard_answer": ("video1", "video2", "tie")[i % 3],
         "video1_path": f"videos/{i}.mp4", "video2_path": f"videos/{(i + 1) % VIDEOS}.mp4"}
        for i in range(VIDEOS)
    ]  # fmt: skip
    write_parquet(folder / "regression" / "train-00000-of-00001.parquet", pairs)
    write_parquet(folder / "monetbench" / "test-00000-of-00001.parquet", pairs[:6])
    (folder / "meta_qa_en.txt").write_text("Is the video smooth?\nDoes it show [[prompt]]?\nIs it bright?\n")
    rows = [
        {"video_path": f"videos/{i}.mp4", "internal_id": str(i), "prompt": PROMPTS[i], "url": "https://x",
         "annotation": {"alignment": 3}, "meta_result": [i % 2, 1, 0], "meta_mask": [1, 1, i % 2]}
        for i in range(VIDEOS)
    ]  # fmt: skip
    write_parquet(folder / "train" / "train-00000-of-00001.parquet", rows)


def genai(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index:032x}.mp4" for index in range(VIDEOS)])
    votes = ("leftvote", "rightvote", "tievote", "bothbad_vote")
    rows = [
        {"id": i, "prompt": PROMPTS[i], "video_left": f"{i:032x}.mp4",
         "video_right": f"{(i + 1) % VIDEOS:032x}.mp4", "vote_type": votes[i % 4]}
        for i in range(8)
    ]  # fmt: skip
    (folder / "data.json").write_text(json.dumps(rows))


def genai_official(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/{index}.mp4" for index in range(VIDEOS)])
    address = "https://huggingface.co/datasets/TIGER-Lab/x/resolve/main/video/{}.mp4"
    write_parquet(folder / "video_generation" / "test-00000-of-00001.parquet", [
        {"prompt": PROMPTS[i], "left_model": "a", "left_video": address.format(i), "right_model": "b",
         "right_video": address.format(i + 1), "vote_type": ("leftvote", "rightvote")[i % 2]}
        for i in range(4)
    ])  # fmt: skip


def reward_bench(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"videos/m{index % 2}/{index}.mp4" for index in range(VIDEOS)])
    columns = ("path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall", "fps_A", "fps_B")
    answers = ("A", "B", "same", "invalid")
    rows = [
        [f"videos/m{i % 2}/{i}.mp4", f"videos/m{(i + 1) % 2}/{i + 1}.mp4", "x", "y", PROMPTS[i],
         answers[(i + 1) % 4], "A", "invalid", answers[i % 4], 8, 8]
        for i in range(8)
    ]  # fmt: skip
    write_csv(folder / "videogen-rewardbench.csv", columns, rows)


def finevd(folder: Path, clips: Sequence[Path]) -> None:
    names = [f"0_00_0{index}_152098.mp4" for index in range(VIDEOS)]
    place(folder, clips, names)
    for shift, name in enumerate(("color", "noise", "artifact", "blur", "temp")):
        write_jsonl(folder / f"yesno_test_{name}.jsonl", [
            {"video": video, "conversations": [
                {"from": "human", "value": f"Is there {name}?"},
                {"from": "gpt", "value": "Yes" if (index + shift) % 3 else "No"},
            ]} for index, video in enumerate(names)
        ])  # fmt: skip


def finevd_scores(folder: Path, clips: Sequence[Path]) -> None:
    """The form of FineVQ's training lists."""
    names = [f"0_00_0{index}_152098.mp4" for index in range(VIDEOS)]
    place(folder, clips, names)
    question = {"from": "human", "value": "<|video|> How would you rate the overall quality of this video?"}
    answer = {"from": "ai", "value": "The overall quality of the video is fair."}
    rows = [
        {"video": name, "mos": PERCENT[index], "conversations": [question, answer]} for index, name in enumerate(names)
    ]
    write_jsonl(folder / "finevd_train_mos1.jsonl", rows[:8])
    write_jsonl(folder / "finevd_test_mos1.jsonl", rows[8:])


def q_bench(folder: Path, clips: Sequence[Path]) -> None:
    place(folder, clips, [f"video/{index}.mp4" for index in range(VIDEOS)])
    rows = [
        {"video_name": "0.mp4", "question": "Is it blurred?", "question_type": "yes-or-no", "context": "Global",
         "answers": ["Yes", "No"], "correct_choice": "B"},
        {"video_name": "1.mp4", "question": "What is worst?", "question_type": "what/how", "context": "Referring",
         "answers": ["Noise", "Blur", "Colour", "Motion"], "correct_choice": "C."},
        {"video_name": "2.mp4_cat_3.mp4.mp4", "question": "Which is sharper?", "question_type": "what/how",
         "context": "Compare", "answers": ["First", "Second"], "correct_choice": "A"},
        {"video_name": "4.mp4", "question": "Describe it.", "question_type": "open_ended", "context": "Global"},
    ]  # fmt: skip
    (folder / "Q_Bench_Video_dev.json").write_text(json.dumps(rows))


MINIATURES: dict[str, Callable[[Path, Sequence[Path]], None]] = {
    "koniq_10k": koniq, "lsvq": lsvq, "konvid_1k": konvid, "live_vqc": live_vqc, "youtube_ugc": youtube_ugc,
    "live_yt_gaming": annotated, "cgvds": annotated, "live_yt_hfr": annotated, "vdpve": annotated,
    "waterloo_ivc_4k": waterloo, "lgvq": lgvq, "video_feedback": video_feedback, "t2vqa_db": t2vqa,
    "aigvqa_db": aigvqa, "aigvqa_pairs": aigvqa_pairs, "t2vqa_sora": t2vqa_sora, "fetv": fetv, "gaia": gaia,
    "own_ratings": own_ratings, "vision_reward_pairs": vision_reward, "vision_reward_questions": vision_reward,
    "monetbench": vision_reward, "genai_bench": genai, "videogen_reward_bench": reward_bench, "finevd": finevd,
    "finevd_scores": finevd_scores, "q_bench_video": q_bench,
}  # fmt: skip
"""A writer of each data set that can be read."""


def write_miniature(name: str, folder: Path, clips: Sequence[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    MINIATURES[name](folder, clips)
    return folder
