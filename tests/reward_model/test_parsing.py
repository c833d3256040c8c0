"""Answers that can be read, answers that cannot, and random ones: the parser never raises and never invents a
verdict.
"""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from reward_model.parsing import parse_choice, parse_score, parse_scores, read_scores

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vqinsight_rewards.json").read_text())

FIRST = (
    "1", "A", "a", "one", "first", "1st", "First.", "Video A", "video a", "VIDEO 1", "Video 1", "Video one",
    "video number 1", "**Video 1**", "**1**", "`1`", "_1_", '"1"', "'A'", "“Video A”", "(A)", "[1]", "1.", "1)", "#1",
    "1!", " \n1\t", "Video\nA", "the first", "the first video", "The first one", "the first video is better",
    "Video 1 is better", "Video 1 is better.", "Video 1 is the better one", "Video A is the winner", "1 is better",
    "A is best", "Video 1 wins", "option A", "Option: 1", "clip 1", "choice 1", "Answer: 1", "The answer is Video 1.",
    "The better video is: **Video 1**", "the better one is the first",
)  # fmt: skip
SECOND = (
    "2", "B", "b", "two", "second", "2nd", "Video B", "**Video 2**", "the second video", "The second one is better.",
    "option B", "Video 2 is better", "Final answer: 2", "(b)", "second clip",
)  # fmt: skip
TIE = (
    "tie", "Tie.", "a tie", "It's a tie", "draw", "equal", "Similar", "the same", "both", "neither",
    "Neither is better", "Both videos are equally good", "They are the same.", "both are similar",
    "The answer is: tie",
)  # fmt: skip
UNREADABLE = (
    "", " ", "...", "**", "the", "video", "Video", "the video", "better", "is better", "first second", "1 or 2",
    "1 and 2", "1/2", "1, 2", "A or B", "A/B", "Video 1 or Video 2", "Video 1, Video 2", "12", "11", "1.5", "1.0",
    "-1", "0", "3", "C", "AB", "1_2", "1**2", "1?", "~~1~~", "≠1", "!1", "not 1", "no, 1", "Video 1 is not better",
    "Video 1 isn't better", "Video 1 is worse", "not the first", "neither 1 nor 2", "not a tie", "no tie",
    "Video 1 is better than Video 2", "Video 1 is better in colour", "Video 1 is", "1 is better? 2", "one is better",
    "one of them", "a video", "a second", "a video is better", "first, then second", "it is one", "yes",
    "I cannot decide.", "I'm sorry, I can't help with that.", "As an AI model I see no videos.", "N/A", "unsure",
    "fir*st", "<b>1</b>", "1 <video>", "both 1", "tie 1", "é", "١", "²", "①",
)  # fmt: skip
READINGS = [(text, choice) for group, choice in ((FIRST, "first"), (SECOND, "second"), (TIE, "tie"), (UNREADABLE, None))
            for text in group]  # fmt: skip


@pytest.mark.parametrize(("answer", "choice"), READINGS)
def test_answers(answer, choice):
    assert parse_choice(f"<think>Video 2 has better light.</think>\n<answer>{answer}</answer>") == choice
    assert parse_choice(f"<answer>{answer}</answer>") == choice
    assert parse_choice(answer) == choice, "without tags"
    assert parse_choice(f"<think>1 or 2, hm</think>{answer}") == choice, "without answer tags"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        # Tags: case, space, text around, a closing tag that is missing or cut.
        ("<THINK>ok</THINK><ANSWER>1</ANSWER>", "first"),
        ("<think>ok</think> < answer > 2 </ answer >", "second"),
        ("<think>ok</think>So:\n<answer>2</answer> I hope this helps.", "second"),
        ("thinking without a tag</think><answer>2</answer>", "second"),
        ("<think>ok</think><answer>1", "first"),
        ("<think>ok</think><answer>1</", "first"),
        ("<think>ok</think><answer>1</answer", "first"),
        ("<think>ok</think><answer>1\n</answ\n", "first"),
        ("<think>ok</think><answer>Video", None),
        ("<think>ok</think><answer>", None),
        ("<think>ok</think>", None),
        ("<think>ok</think>1</answer>", None),
        ("<think>ok</think>I choose 1", None),
        ("I prefer Video B", None),
        # Only what comes after the last thought counts.
        ("<think>maybe <answer>1</answer></think><answer>2</answer>", "second"),
        ("<answer>1</answer><think>no</think><answer>2</answer>", "second"),
        ("<answer>1</answer><think>no</think>", None),
        ("<think>a</think><think>b</think><answer>1</answer>", "first"),
        # A thought that is not closed holds drafts, but a complete answer at its end is one.
        ("<think>ok<answer>1</answer>", "first"),
        ("<think>ok <answer>1", None),
        ("<think>perhaps <answer>1</answer>, but then", None),
        ("<think>perhaps <answer>1</answer>, no: <answer>2</answer>", None),
        ("<think>2 is", None),
        ("<think>1", None),
        ("<answer>1</answer><think>wait", None),
        # Several answers.
        ("<think>a</think><answer>1</answer><answer>2</answer>", None),
        ("<think>a</think><answer>1</answer> again: <answer>Video A</answer>", "first"),
        ("<think>a</think><answer>1</answer><answer>hm</answer>", None),
        ("<think>a</think><answer>1</answer><answer>", None),
        ("<think>a</think><answer>1<answer>2</answer></answer>", None),
    ],
)  # fmt: skip
def test_tags(text, choice):
    assert parse_choice(text) == choice


@pytest.mark.parametrize("row", GOLDEN["multiple_choice"], ids=lambda row: row["completion"][-40:])
def test_golden_exact_match(row):
    """The released reward takes the first ``<answer>``, letter for letter.

    ``parse_choice`` is more lenient (case, full stop, 'A' for 'Video A') and stricter in two things: drafts inside the
    thought do not count, and two answers that differ are none.
    """
    gold, choice = parse_choice(row["solution"]), parse_choice(row["completion"])
    if "</answer></think>" in row["completion"]:
        assert choice == "second" != gold
    elif row["completion"].count("<answer>") > 1:
        assert choice is None
    elif row["released"] == 1:
        assert choice == gold
    else:
        lenient = {"video b": "second", "Video B.": "second", "A": "first", "Video B": "second"}
        assert choice == lenient.get(row["extracted"])


# Words that verdicts, refusals and tags are made of, so that random texts come near to being answers.
PIECES = (
    "<answer>", "</answer>", "<ANSWER>", "< answer >", "</answer", "<think>", "</think>", "1", "2", "A", "b", "one",
    "two", "first", "the second", "video", "Video 1", "option B", "is", "better", "not", "or", "than", "tie", "both",
    "neither", "the", "answer", " ", " ", "\n", ".", ",", "*", "_", "'", '"', "(", ")", "!", "?", "/", "-", "#", "<",
    ">", "İ", "ſ", "\x00", "\ud800",
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: f"</think><answer>{''.join(pieces)}</answer>"),
    st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join),
)
FULL = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
SOME, MANY = settings(FULL, max_examples=2000), settings(FULL, max_examples=100_000)

EVIDENCE = {
    "first": ({"1", "a", "one", "first", "1st"}, {"2", "b", "two", "second", "2nd"}),
    "second": ({"2", "b", "two", "second", "2nd"}, {"1", "a", "first", "1st"}),
    "tie": (
        {"tie", "tied", "draw", "equal", "equally", "similar", "same", "both", "neither"},
        {"1", "2", "b", "first", "second"},
    ),
}
DOUBT = {"not", "or", "than", "no", "3", "c"}


def invented(text: str) -> bool:
    """Whether a verdict is read without what it needs: words that name it, none that name the other or doubt it, and
    few words in all, after the thought.
    """
    choice = parse_choice(text)
    if choice is None:
        return False
    tail = text.lower().rpartition("</think>")[2]
    blocks = re.split(r"<\s*answer\s*>", tail)
    for block in blocks[1:] or blocks:
        words = set(re.findall(r"[^\W_]+", re.split(r"<\s*/\s*answer\s*>|</?a?n?s?w?e?r?\s*\Z", block)[0]))
        named, against = EVIDENCE[choice]
        if not words & named or words & (against | DOUBT) or len(words) > 10:
            return True
    return False


@SOME
@given(TEXTS)
def test_random_texts(text):
    assert not invented(text)


@pytest.mark.slow
@MANY
@given(TEXTS)
def test_a_hundred_thousand_random_texts(text):
    assert not invented(text)


def test_random_texts_do_come_near_to_answers():
    """Else the test above would see nothing but None."""
    seen = set()

    @settings(SOME, max_examples=1000)
    @given(TEXTS)
    def look(text):
        seen.add(parse_choice(text))

    look()
    assert seen == {"first", "second", "tie", None}


@settings(SOME, max_examples=500)
@given(TEXTS, TEXTS, st.sampled_from(READINGS))
@example("<think><answer>2</answer>", "", ("1", "first"))
def test_the_thought_does_not_matter(thought, more, reading):
    answer, choice = reading
    assert parse_choice(f"{thought}</think>{more}</think><answer>{answer}</answer>") == choice


@settings(SOME, max_examples=500)
@given(TEXTS, TEXTS, st.sampled_from(FIRST), st.sampled_from(SECOND))
def test_two_answers_are_none(between, after, first, second):
    assume("</think>" not in (between + after).lower())
    assert parse_choice(f"<think>x</think><answer>{first}</answer>{between}<answer>{second}</answer>{after}") is None


SCORES = {
    "63.5": 63.5, " 60 ": 60.0, "88.25\n": 88.25, "1,024.0": 1024.0, "0": 0.0, "-3": -3.0, "+4.0": 4.0, ".5": 0.5,
    "1e2": 100.0, "**70**": 70.0, "`70`": 70.0, '"70"': 70.0, "70.": 70.0, "Score: 70": 70.0, "The score is 70.": 70.0,
    "**Score:** 70": 70.0, "Overall quality score: **3.82**": 3.82, "score: 3.82 out of 5": 3.82, "70/100": 70.0,
    "4.2 / 5": 4.2, '{"rating": 4.2}': 4.2, "{'score': '4'}": 4.0, '```json\n{"rating": 4.2}\n```': 4.2,
    "Rating: 4": 4.0,
}  # fmt: skip
NO_SCORES = (
    "", " ", "about 70", "70 or 80", "60-70", "2.71 then 3.14", "nan", "inf", "-inf", "1e999", "1,5", "1,02", "1,0240",
    "seventy", "70%", "7 0", "1.2.3", "--3", "٧٠", "½", "70 stars", "not 70", "score", "/100", "70/", "0x10", "1_000",
    '{"rating": 4.2, "score": 3}', '{"rating": null}', "[70]", "I cannot rate this.", "video 2",
)  # fmt: skip


@pytest.mark.parametrize(("answer", "score"), [*SCORES.items(), *((text, None) for text in NO_SCORES)])
def test_scores(answer, score):
    assert parse_score(f"<think>First I say 12, then 13.</think>\n<answer>{answer}</answer>") == score
    assert parse_score(f"<answer>{answer}</answer>") == score
    assert parse_score(answer) == score, "without tags"
    assert parse_score(f"<think>12</think>{answer}") == score, "without answer tags"


@pytest.mark.parametrize(
    ("answer", "percent", "likert"),
    [
        ("3/5", 60.0, 3.0), ("4.5 out of 5", 90.0, 4.5), ("8/10", 80.0, 4.2), ("70/100", 70.0, 3.8), ("70", 70.0, 70.0),
        ("Score: 3 out of 5", 60.0, 3.0), ("0/10", 0.0, 1.0), ("5/3", None, None), ("6/5", None, 6.0),
        ("-1/10", None, None), ("70/7", None, None), ("3/0", None, None), ("3.5/5.0", 70.0, 3.5),
    ],
)  # fmt: skip
def test_scores_out_of_something(answer, percent, likert):
    assert parse_score(f"<answer>{answer}</answer>", (0.0, 100.0)) == (
        None if percent is None else pytest.approx(percent)
    )
    assert parse_score(f"<answer>{answer}</answer>", (1.0, 5.0)) == (None if likert is None else pytest.approx(likert))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<THINK>ok</THINK><ANSWER>1</ANSWER>", 1.0),
        ("<think>ok</think><answer>71", 71.0),
        ("<think>ok</think><answer>71</ans", 71.0),
        ("<think>ok</think><answer>71</answer><answer>71.0</answer>", 71.0),
        ("<think>ok</think><answer>71</answer><answer>72</answer>", None),
        ("<think>ok</think><answer>71</answer><answer>hm</answer>", None),
        ("<think>maybe <answer>71</answer></think><answer>72</answer>", 72.0),
        ("<think>maybe <answer>71", None),
        ("<think>71", None),
    ],
)
def test_the_same_tags_hold_a_score(text, score):
    assert parse_score(text) == score


@pytest.mark.parametrize("row", GOLDEN["regression"], ids=lambda row: row["completion"][-30:])
def test_golden_scores(row):
    assert parse_score(row["completion"]) == row["extracted"]
    assert parse_score(row["solution"]) == row["gt"]


@pytest.mark.parametrize("row", GOLDEN["multi_dimension"], ids=lambda row: row["completion"][-40:])
def test_golden_dimensions(row):
    for text, values in ((row["completion"], row["values_lenient_parse"]), (row["solution"], row["gt"])):
        scores = parse_scores(text, row["keys"])
        assert scores == (None if values is None else dict(zip(row["keys"], values, strict=True)))


def test_golden_six_dimensions():
    (row,) = GOLDEN["multi_dimension_six"]
    keys = ("color", "noise", "artifact", "blur", "temporal", "overall")
    assert parse_scores(row["completion"], keys) == dict(zip(keys, (50, 60, 40, 55, 70, 52.5), strict=True))


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ("Spatial: 50\nTemporal: 30.5", (50.0, 30.5)),
        ("**Spatial**: 50; **Temporal**: 30", (50.0, 30.0)),
        ("{'TEMPORAL': 30, 'spatial': 50,}", (50.0, 30.0)),
        ('```json\n{\n  "spatial": "50",\n  "temporal": 30\n}\n```', (50.0, 30.0)),
        ('{"spatial": 50, "temporal": 30, "overall": 41}', (50.0, 30.0)),
        ('{"spatial": 50, "temporal": 30, "spatial": 50}', (50.0, 30.0)),
        ('{"spatial": 50, "temporal": 30, "spatial": 51}', None),
        ('{"spatial": 50}', None),
        ('{"spatial": 50, "temporal": null}', None),
        ('{"spatial": 50, "temporal": NaN}', None),
        ('{"spatial": 1e999, "temporal": 5}', None),
        ('{"spatial": 1,024, "temporal": 5}', None),
        ('{"spatial": 50, "temporal": 30', None),
        ('"spatial": 50, "temporal": 30}', None),
        ('{"spatial": {"spatial": 50, "temporal": 30}}', None),
        ("spatial: about 50, temporal: 30", None),
        ("spatial is 50 and temporal is 30", None),
        ("50, 30", None),
        ("", None),
    ],
)
def test_dimensions(answer, scores):
    expected = None if scores is None else dict(zip(("spatial", "temporal"), scores, strict=True))
    assert parse_scores(
        f"<think>spatial: 1, temporal: 2</think><answer>{answer}</answer>", ["spatial", "temporal"]
    ) == (expected)


def test_a_key_may_have_spaces_and_capitals():
    assert parse_scores('{"Text-Video Alignment": 3}', ["text-video alignment"]) == {"text-video alignment": 3.0}
    assert parse_scores("spatial: 3", []) is None


NUMBERS = (
    "<answer>", "</answer>", "<think>", "</think>", "{", "}", '"', "'", "spatial", "temporal", ":", ",", "=", "\n", " ",
    "1", "70", "3.5", "-", "+", ".", "e", "e9", "1,024", "/100", "out of", "score", "rating", "is", "about", "or",
    "nan", "inf", "**", "```json", "```", "٧", "½", "\x00", "\ud800",
)  # fmt: skip
NUMBER_TEXTS = st.one_of(
    st.lists(st.sampled_from(NUMBERS), max_size=14).map("".join),
    st.lists(st.sampled_from(NUMBERS), max_size=6).map(lambda pieces: f"</think><answer>{''.join(pieces)}</answer>"),
    st.lists(st.sampled_from(NUMBERS), max_size=8).map(" ".join),
    TEXTS,
)


def invented_number(text: str) -> bool:
    """Whether a number is read that does not stand in the text after the thought, is not finite, or stands beside
    doubt; or numbers for dimensions that are not named.
    """
    tail = text.lower().rpartition("</think>")[2]
    scores, score = parse_scores(text, ("spatial", "temporal")), parse_score(text)
    found = re.findall(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", tail.replace(",", ""))
    digits = [float(number) for number in found]
    for value in [*(scores or {}).values(), score]:
        if value is not None and (abs(value) == float("inf") or value not in digits):
            return True
    doubted = {"about", "or", "nan", "inf"} & set(re.findall(r"[^\W_\d]+", tail.split("</answer>")[0]))
    unnamed = not ("spatial" in tail and "temporal" in tail)
    return bool((score is not None and doubted) or (scores is not None and unnamed))


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [
        ('{"quality": "4/5", "motion": 2.5}', (1, 5), (4.0, 2.5)),
        ('{"quality": 4/5, "motion": "2.5 / 5.0"}', (0, 100), (80.0, 50.0)),
        ("quality: 8 out of 10\nmotion: 35/100", (0, 5), (4.0, 1.75)),
        ('{"quality": "4/7", "motion": 3}', (1, 5), None),
        ('{"quality": "6/5", "motion": 3}', (0, 100), None),
        ('{"quality": "80%", "motion": 3}', (0, 100), None),
        ('{"quality": "4,5", "motion": 3}', (1, 5), None),
        ('{"quality": "⅘", "motion": "four"}', (1, 5), None),
        ('{"quality": "4/5", "motion": 3}', None, None),
    ],
)
def test_denominators_of_several_dimensions(text, scale, expected):
    found = read_scores(f"<answer>{text}</answer>", ("quality", "motion"), scale)
    assert found == (None if expected is None else dict(zip(("quality", "motion"), expected, strict=True)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 out of 5", 80.0), ("4 / 5", 80.0), ('{"rating": "4/5"}', 80.0), ("Score: 8/10", 80.0), ("80/100", 80.0),
        ("80%", None), ("80 percent", None), ("4,5", None), ("⅘", None), ("four", None), ("eighty", None),
        ("4/6", None),
        ("4 out of five", None), ("between 70 and 80", None), ("∞", None), ("1e999", None), ("８０", None),
    ],
)  # fmt: skip
def test_a_score_as_people_and_models_write_it(text, expected):
    assert read_scores(text, (), (0, 100)) == (None if expected is None else {"": expected})


@settings(SOME, max_examples=700)
@given(NUMBER_TEXTS)
def test_random_numbers(text):
    assert not invented_number(text)


@pytest.mark.slow
@MANY
@given(NUMBER_TEXTS)
def test_a_hundred_thousand_random_numbers(text):
    assert not invented_number(text)


@pytest.mark.parametrize(
    "text", ["<answer>" * 3000, "a" + " " * 20_000 + "1", "{" * 20_000, "1," * 20_000, "score " * 9000]
)
def test_long_nonsense_is_read_at_once(text):
    assert parse_score(text) is None
    assert parse_scores(text, ["a"]) is None
    assert parse_choice(text) is None
