"""Answers as published judges give them, and as they fail to: (text, what is read) by preset and kind of question."""


def pair(*scores: float | str) -> str:
    """UnifiedReward-2.0's answer about two videos: alignment, coherence and style of the first, then of the second."""
    first, second = scores[:3], scores[3:]
    names = ("Alignment", "Coherence", "Style")
    rows = zip(names, first, second, strict=True)
    return "\n\n".join(f"{name} Score:\n Video 1: {one}\n Video 2: {two}" for name, one, two in rows)


def point(alignment: object, physics: object, style: object) -> str:
    """UnifiedReward-2.0's answer about one."""
    return f"Alignment Score (1-5): {alignment}\nPhysics Score (1-5): {physics}\nStyle Score (1-5): {style}"


def three(visual: object, text: object, physical: object, between: str = "") -> str:
    """VideoScore2's answer, as it was trained to end."""
    return (
        f"(1) visual quality{between}: {visual}\n(2) text-to-video alignment{between}: {text}\n"
        f"(3) physical/common-sense consistency{between}: {physical}"
    )


THOUGHT = (
    "<think>\n1. Semantic consistency: Video 1 (9/10) - the cat rides; Video 2 (7/10) - it only stands\n"
    "2. Temporal coherence: Video 1 (8/10) - smooth; Video 2 (6/10) - jumps\n"
    "Total score:\nVideo 1: 9+8=17\nVideo 2: 7+6=13\n</think>\n"
)
LOOKED = "<think>\nThe kitten's limbs warp. visual quality: 2 would be harsh.\n</think>\n\n"
RATED = "<think>The picture is a little soft, 2.9 at worst.</think>"

BETTER = [
    (f"{THOUGHT}<answer>Video 1 is better</answer>", "first"),
    (f"{THOUGHT}<answer>Video 2 is better</answer>", "second"),
    (f"{THOUGHT}<answer> Video 1 is better.</answer>", "first"),
    (f"{THOUGHT}<answer>\nVideo 2 is better\n</answer>\n", "second"),
    (f"{THOUGHT}<answer>**Video 1** is better</answer>", "first"),
    (f"{THOUGHT}<answer>video 2 is better", "second"),
    (f"{THOUGHT}Video 1 is better", "first"),
    (f"{THOUGHT}<answer>Video 2</answer>", "second"),
    (f"{THOUGHT}<answer>Both videos are equally good</answer>", "tie"),
    (f"{THOUGHT}<answer>Video 1 is not better</answer>", None),
    (f"{THOUGHT}<answer>Video 1 is better or Video 2 is better</answer>", None),
    (f"{THOUGHT}<answer>Video 3 is better</answer>", None),
    (f"{THOUGHT}<answer></answer>", None),
    (f"{THOUGHT}<answer>Video 1 is better</answer><answer>Video 2 is better</answer>", None),
    ("<think>\n1. Semantic consistency: Video 1 (9/10) - the cat", None),
    ("Total score:\nVideo 1: 17\nVideo 2: 13", None),
    (f"{THOUGHT}<answer>17</answer>", None),
    ("I am sorry, but I cannot view videos.", None),
    (f"{THOUGHT}<answer>Video 1 is better because its total is higher, though Video 2 is sharper</answer>", None),
    ("", None),
]
ANSWERS: dict[tuple[str, str], list[tuple[str, object]]] = {
    ("unifiedreward-think", "compare"): BETTER,
    ("unifiedreward-think-qwen3", "compare"): BETTER,
    ("unifiedreward-2.0", "compare"): [
        (pair(0.4736, 0.5981, 0.3484, 0.5264, 0.4019, 0.6516), "second"),
        (pair(0.9, 0.8, 0.7, 0.1, 0.2, 0.3), "first"),
        (pair(0.5, 0.5, 0.5, 0.5, 0.5, 0.5), "tie"),
        (pair(1, 1, 1, 0, 0, 0), "first"),
        (pair("0.0", "0.0", "0.0", "1.0", "1.0", "1.0"), "second"),
        (pair(0.67, 0.67, 0.67, 0.34, 0.34, 0.34), "first"),
        (pair(0.2, 0.9, 0.4, 0.8, 0.1, 0.6), "tie"),
        ("\n" + pair(0.6, 0.6, 0.6, 0.4, 0.4, 0.4) + "\n\n", "first"),
        (pair(0.6, 0.6, 0.6, 0.4, 0.4, 0.4).replace("Score:", "Score:**").replace("A", "**A"), "first"),
        (pair(0.3, 0.3, 0.3, 0.7, 0.7, 0.7).replace("\n", " "), "second"),
        (pair(0.9, 0.9, 0.9, 0.9, 0.9, 0.9), None),
        (pair(0.5, 0.5, 0.5, 0.1, 0.5, 0.5), None),
        (pair(7, 8, 9, 3, 2, 1), None),
        (pair("X", "X", "X", "Y", "Y", "Y"), None),
        (pair("-0.2", 0.5, 0.5, 1.2, 0.5, 0.5), None),
        (pair(0.6, 0.6, 0.6, 0.4, 0.4, 0.4).partition("Style")[0], None),
        (pair(0.6, 0.6, 0.6, 0.4, 0.4, "0."), None),
        ("Video 1 is better", None),
        (pair(0.6, 0.6, 0.6, 0.4, 0.4, 0.4) + "\n\nIn all, Video 2 is better.", None),
        ("", None),
    ],
    ("unifiedreward-2.0", "score"): [
        (point(2.4036, 3.0987, 3.3889), (2.4036, 3.0987, 3.3889)),
        (point(5, 5, 5), (5.0, 5.0, 5.0)),
        (point(1, 1.0, 1), (1.0, 1.0, 1.0)),
        ("\n" + point(3.2, 3.1, 4) + "\n", (3.2, 3.1, 4.0)),
        (point(3.2, 3.1, 4).replace("\n", ", "), (3.2, 3.1, 4.0)),
        (point(3.2, 3.1, 4).replace(" (1-5)", ""), (3.2, 3.1, 4.0)),
        (point("3/5", "4/5", "2 / 5"), (3.0, 4.0, 2.0)),
        (point("**3.5**", 4, 4), (3.5, 4.0, 4.0)),
        (point(3.5, 4, 4).lower(), (3.5, 4.0, 4.0)),
        (point(0, 3, 3), None),
        (point(3, 3, 5.1), None),
        (point(80, 75, 90), None),
        (point("X", "Y", "Z"), None),
        (point(3, 3, ""), None),
        (point(3, 3, 3).replace("Physics", "Coherence"), None),
        (point(3, 3, 3).partition("Style")[0], None),
        (point(-3, 3, 3), None),
        (point(3, 3, 3) + "\nOverall Score: 1", None),
        ("The video looks good.", None),
        ("", None),
    ],
    ("videoscore2", "score"): [
        (LOOKED + three(3, 3, 3), (3.0, 3.0, 3.0)),
        (LOOKED + three(1, 5, 2), (1.0, 5.0, 2.0)),
        (LOOKED + three(3, 4, 3, " – clarity, smoothness, artifacts"), (3.0, 4.0, 3.0)),
        ("visual quality: 4; \ntext-to-video alignment: 3, \nphysical/common-sense consistency: 2", (4.0, 3.0, 2.0)),
        (f"{LOOKED}<answer>{three(4, 3, 2)}</answer>", (4.0, 3.0, 2.0)),
        (LOOKED + three("**4**", 3, 2), (4.0, 3.0, 2.0)),
        (LOOKED + three("4/5", "3/5", "2/5"), (4.0, 3.0, 2.0)),
        (LOOKED + "So:\n" + three(4, 4, 4), (4.0, 4.0, 4.0)),
        ("Looking at the frames, the kitten is blurred.\n\n" + three(2, 3, 2), (2.0, 3.0, 2.0)),
        (LOOKED + three(4, 4, 4).title(), (4.0, 4.0, 4.0)),
        (LOOKED + three(0, 3, 3), None),
        (LOOKED + three(3, 6, 3), None),
        (LOOKED + three(3.5, 3, 3), None),
        (LOOKED + three("<v_score>", 3, 3), None),
        (LOOKED + three(3, 3, 3).partition("(3)")[0], None),
        (LOOKED + three(3, 3, 3) + "\n" + three(4, 4, 4), None),
        (LOOKED.removesuffix("</think>\n\n"), None),
        (LOOKED + three(3, 3, 3) + " out of 10, or perhaps 7", None),
        ("I cannot rate this video.", None),
        ("", None),
    ],
    ("q-insight", "score"): [
        (RATED + '<answer>{"rating": 3.51}</answer>', (3.51,)),
        (RATED + '\n<answer>\n{\n  "rating": 2.75\n}\n</answer>', (2.75,)),
        (RATED + "<answer>```json\n{\"rating\": 4.20}\n```</answer>", (4.2,)),
        (RATED + '<answer>{"rating": 1}</answer>', (1.0,)),
        (RATED + '<answer>{"rating": 5.00}</answer>', (5.0,)),
        (RATED + "<answer>{'rating': 3.4}</answer>", (3.4,)),
        (RATED + "<answer>rating: 3.4</answer>", (3.4,)),
        (RATED + '<answer>{"rating": 3.4', None),
        (RATED + '<answer>{"rating": "3.40"}</answer>', (3.4,)),
        ('{"rating": 3.4}', (3.4,)),
        (RATED + '<answer>{"rating": 0.5}</answer>', None),
        (RATED + '<answer>{"rating": 7.2}</answer>', None),
        (RATED + '<answer>{"rating": "good"}</answer>', None),
        (RATED + '<answer>{"score": 3.4}</answer>', None),
        (RATED + '<answer>{"rating": }</answer>', None),
        (RATED + '<answer>{"rating": 3.4, "rating": 2.0}</answer>', None),
        (RATED + "<answer>I would say it is fine</answer>", None),
        ("<think>The picture is a little soft", None),
        (RATED + "<answer></answer>", None),
        ("", None),
    ],
}  # fmt: skip
