"""Rows that papers publish on the benchmarks, to be set beside one's own.

Sources: VQ-Insight (Zhang et al. 2025, tables 1 to 3) and VQAThinker (Cao et al. 2025, tables 1 to 3), which also
report the other methods. A score row is (method, SRCC, PLCC); LGVQ's is SRCC, KRCC, PLCC by dimension; a preference
row is (method, tau, diff) and a question row accuracies, in per cent. ``published_aigv.json`` has AIGV-Assessor's
tables 3 to 6 (Wang et al. 2025), as printed.
"""

from functools import cache
from pathlib import Path

from videoduet.store import read_json

SCORES: dict[tuple[str, str], list[tuple[str, float, float]]] = {
    ("lsvq", "test"): [
        ("FAST-VQA", 0.880, 0.880), ("DOVER", 0.878, 0.866), ("Q-Align", 0.886, 0.884), ("Q-Insight", 0.644, 0.639),
        ("VisualQuality-R1", 0.795, 0.796), ("VQ-Insight", 0.875, 0.876), ("VQAThinker", 0.883, 0.880),
    ],
    ("lsvq", "test_1080p"): [
        ("FAST-VQA", 0.781, 0.813), ("DOVER", 0.782, 0.813), ("Q-Align", 0.761, 0.822), ("Q-Insight", 0.601, 0.648),
        ("VisualQuality-R1", 0.716, 0.744), ("VQ-Insight", 0.786, 0.823), ("VQAThinker", 0.798, 0.834),
    ],
    ("konvid_1k", "all"): [
        ("FAST-VQA", 0.859, 0.854), ("DOVER", 0.874, 0.869), ("Q-Align", 0.876, 0.878), ("Q-Insight", 0.751, 0.753),
        ("VisualQuality-R1", 0.784, 0.792), ("VQ-Insight", 0.875, 0.884), ("VQAThinker", 0.881, 0.884),
    ],
    ("live_vqc", "all"): [
        ("FAST-VQA", 0.826, 0.845), ("DOVER", 0.817, 0.840), ("Q-Align", 0.783, 0.819), ("Q-Insight", 0.624, 0.708),
        ("VisualQuality-R1", 0.732, 0.781), ("VQ-Insight", 0.790, 0.835), ("VQAThinker", 0.808, 0.847),
    ],
    ("youtube_ugc", "all"): [
        ("FAST-VQA", 0.730, 0.747), ("DOVER", 0.771, 0.781), ("Q-Align", 0.834, 0.846), ("Q-Insight", 0.560, 0.591),
        ("VisualQuality-R1", 0.717, 0.730), ("VQAThinker", 0.860, 0.863),
    ],
    ("live_yt_gaming", "all"): [
        ("FAST-VQA", 0.631, 0.677), ("DOVER", 0.647, 0.728), ("Q-Align", 0.611, 0.681), ("VQAThinker", 0.767, 0.806),
    ],
    ("cgvds", "all"): [
        ("FAST-VQA", 0.725, 0.747), ("DOVER", 0.694, 0.747), ("Q-Align", 0.756, 0.798), ("VQAThinker", 0.856, 0.845),
    ],
    ("live_yt_hfr", "all"): [
        ("FAST-VQA", 0.326, 0.415), ("DOVER", 0.360, 0.465), ("Q-Align", 0.329, 0.342), ("VQAThinker", 0.528, 0.610),
    ],
    ("waterloo_ivc_4k", "all"): [
        ("FAST-VQA", 0.327, 0.363), ("DOVER", 0.368, 0.418), ("Q-Align", 0.414, 0.497), ("VQAThinker", 0.573, 0.624),
    ],
    ("vdpve", "all"): [
        ("FAST-VQA", 0.611, 0.620), ("DOVER", 0.627, 0.631), ("Q-Align", 0.639, 0.649), ("VQAThinker", 0.706, 0.716),
    ],
}  # fmt: skip

LGVQ: list[tuple[str, dict[str, tuple[float, float, float]]]] = [
    ("UGVQ", {"spatial": (0.764, 0.571, 0.793), "temporal": (0.894, 0.703, 0.910),
              "consistency": (0.545, 0.391, 0.569)}),
    ("UnifiedReward", {"spatial": (0.580, 0.432, 0.594), "temporal": (0.466, 0.330, 0.500),
                       "consistency": (0.589, 0.433, 0.589)}),
    ("Qwen-SFT", {"spatial": (0.687, 0.520, 0.735), "temporal": (0.723, 0.539, 0.750),
                  "consistency": (0.605, 0.462, 0.660)}),
    ("VQ-Insight", {"spatial": (0.823, 0.640, 0.844), "temporal": (0.911, 0.744, 0.927),
                    "consistency": (0.825, 0.652, 0.836)}),
]  # fmt: skip

PREFERENCES: dict[str, list[tuple[str, float, float]]] = {
    "genai_bench": [
        ("VQAScore", 46.96, 69.14), ("VideoScore", 47.43, 70.50), ("VisionReward", 46.68, 68.86),
        ("VideoReward", 45.84, 69.00), ("Qwen-SFT", 40.69, 59.43), ("Q-Insight", 47.52, 70.43),
        ("UnifiedReward", 49.67, 74.42), ("VQ-Insight", 50.80, 75.71),
    ],
    "monetbench": [
        ("VQAScore", 54.00, 59.39), ("VideoScore", 49.10, 54.90), ("VisionReward", 59.40, 72.44),
        ("VideoReward", 53.60, 59.88), ("Qwen-SFT", 59.20, 72.07), ("Q-Insight", 49.60, 60.37),
        ("UnifiedReward", 52.10, 62.56), ("VQ-Insight", 61.20, 74.51),
    ],
}  # fmt: skip

QUESTIONS: dict[str, list[tuple[str, dict[str, float]]]] = {
    "finevd": [
        (method, dict(zip(("color", "noise", "artifact", "blur", "temporal", "overall"), values, strict=True)))
        for method, values in (
            ("Qwen2.5-VL", (68.49, 48.74, 47.51, 52.08, 56.25, 54.61)),
            ("InternVL3", (64.63, 62.18, 52.49, 52.98, 68.01, 60.06)),
            ("FineVQ", (73.52, 72.74, 51.87, 64.76, 65.06, 65.59)),
            ("Q-Insight", (63.99, 52.52, 48.21, 64.58, 68.01, 59.46)),
            ("VisualQuality-R1", (65.27, 55.46, 48.17, 65.77, 63.24, 59.58)),
            ("VQAThinker", (82.64, 70.17, 55.15, 70.83, 83.46, 72.45)),
        )
    ],
    "q_bench_video": [
        (method, dict(zip(("global", "referring", "single videos"), values, strict=True)))
        for method, values in (
            ("Qwen2.5-VL", (55.71, 53.75, 54.66)), ("InternVL3", (50.87, 50.75, 50.80)),
            ("GPT-4o", (57.98, 54.39, 56.17)), ("VQA2-Assistant", (61.59, 57.36, 59.32)),
            ("Q-Insight", (55.71, 53.45, 54.50)), ("VisualQuality-R1", (57.09, 54.35, 55.63)),
            ("VQAThinker", (58.82, 56.46, 57.56)),
        )
    ],
}  # fmt: skip

NOTES = {
    "finevd": "Asked by yes and no. The published rows of reasoning judges are read by another model from free "
    "descriptions, so none is shown; --checker measures as they were.",
    "q_bench_video": "The published rows are of single videos; their Overall stands beside 'single videos'.",
    "lgvq": "The published split is not public; train and test here are split by prompt.",
    **dict.fromkeys(
        ("aigvqa_db", "fetv", "gaia", "t2vqa_db"),
        "The published rows are of methods trained on each split, 4:1, and the mean of ten; whether by prompt or by "
        "video is not said.",
    ),
}
"""Where a published row was measured in another way than here."""
DESCRIBED = (
    "Read from free descriptions, as the published rows of Q-Insight, VisualQuality-R1 and VQAThinker are; how the "
    "checker was asked is not published. The other rows were asked for yes and no."
)


def note_on(benchmark: str, *, described: bool = False) -> str | None:
    """What is to be said of a benchmark's published rows; ``described``: FineVD was read from free descriptions."""
    return DESCRIBED if described else NOTES.get(benchmark)


@cache
def _tables() -> dict[str, dict[str, list[list[str | float]]]]:
    return read_json(Path(__file__).with_name("published_aigv.json"))


def _aigv(benchmark: str, dimension: str) -> list[dict[str, str | float]]:
    """AIGV-Assessor's rows: correlations, or of pairs the accuracy, which was printed in per cent."""
    rows = _tables().get(benchmark, {}).get(dimension, [])
    if benchmark == "aigvqa_pairs":
        return [{"method": method, "diff": round(float(percent) / 100, 4)} for method, percent in rows]
    return [dict(zip(("method", "SRCC", "PLCC", "KRCC"), row, strict=False)) for row in rows]


def published_rows(benchmark: str, split: str, dimension: str) -> list[dict[str, str | float]]:
    """Published rows for one dimension of a benchmark, each with its ``method`` and metrics named as here."""
    if benchmark == "lgvq":
        rows = [
            {"method": method, **dict(zip(("SRCC", "KRCC", "PLCC"), values[dimension], strict=True))}
            for method, values in LGVQ
        ]
        # Both papers measured UGVQ, and not alike.
        others = [{**row, "method": f"{row['method']} (AIGV-Assessor)"} for row in _aigv(benchmark, dimension)]
        return [*others, *rows]
    if rows := _aigv(benchmark, dimension):
        return rows
    if benchmark in PREFERENCES and dimension == "overall":
        return [{"method": m, "tau": tau / 100, "diff": diff / 100} for m, tau, diff in PREFERENCES[benchmark]]
    if benchmark in QUESTIONS:
        rows = QUESTIONS[benchmark]
        return [{"method": m, "accuracy": v[dimension] / 100} for m, v in rows if dimension in v]
    return [{"method": m, "SRCC": s, "PLCC": p} for m, s, p in SCORES.get((benchmark, split), [])]
