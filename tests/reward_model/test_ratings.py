"""Mean opinion scores against vectors (tests/golden/aigv_mos), raw ratings as tables, splits, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from miniature import place, write_csv, write_jsonl

from pipelines import process_ratings
from reward_model.datasets import read_dataset
from reward_model.datasets.rating_tables import read_ratings
from reward_model.datasets.ratings import mean_opinion_scores, rescaled_scores, screened
from reward_model.datasets.splits import random_splits, shared_prompts
from videoduet.errors import InputError

CASES = json.loads((Path(__file__).parents[1] / "golden" / "aigv_mos.json").read_text())["cases"]


@pytest.mark.parametrize("name", CASES)
def test_scores_are_exact(name):
    case, exact = CASES[name], {"rtol": 0, "atol": 1e-9}
    ratings = case["ratings"]
    np.testing.assert_allclose(mean_opinion_scores(ratings), case["mos"], **exact)
    np.testing.assert_allclose(rescaled_scores(ratings), np.array(case["rescaled"], float), **exact)
    assert screened(ratings).tolist() == case["bt500"]["rejected"]
    kept = mean_opinion_scores(ratings, screening=True)
    np.testing.assert_allclose(kept, case["bt500"]["mos_after_rejection"], **exact)
    np.testing.assert_allclose(mean_opinion_scores(np.array(ratings, float)), case["mos"], **exact)


def test_a_worked_example():
    """Means 2 and 3, deviations 1 and 1: z is -1, 0, 1 for both; the third video has one rating."""
    np.testing.assert_allclose(mean_opinion_scores([[1, 2, 3], [2, 3, 4]]), [100 / 3, 50, 200 / 3])
    far = 100 * 2**-0.5 / 6
    np.testing.assert_allclose(
        mean_opinion_scores([[1, 3, None], [None, None, None], [2, 4, 3]]),
        [(50 - far + 100 / 3) / 2, (50 + far + 200 / 3) / 2, 50],
    )


def test_who_rates_everything_alike_counts_for_nothing():
    np.testing.assert_allclose(mean_opinion_scores([[0.1, 0.1, 0.1], [1, 2, 3]]), [100 / 3, 50, 200 / 3])
    assert np.isnan(mean_opinion_scores([[3, None], [None, 3]])).all()
    assert not screened([[3, 3, 1]] * 4).any()


@pytest.mark.parametrize("ratings", [[], [1, 2], [[1, 2], [1]], [["good"]], [[float("inf"), 1]], [[[1]]]])
def test_what_is_no_table_is_told(ratings):
    with pytest.raises(InputError, match="ratings are no table"):
        mean_opinion_scores(ratings)


def test_splits_keep_groups_together():
    prompts = [f"prompt {index // 4}" for index in range(80)]
    by_prompt, by_video = random_splits(prompts), random_splits([str(index) for index in range(80)])
    assert len(by_prompt) == len(by_video) == 10
    assert {len(test) for test in [*by_prompt, *by_video]} == {16}
    assert all(shared_prompts(prompts, test) == 0 for test in by_prompt)
    assert np.mean([shared_prompts(prompts, test) for test in by_video]) > 0.9
    assert len(set(by_prompt)) == 10 and by_prompt == random_splits(prompts) != random_splits(prompts, seed=1)
    backwards = random_splits(prompts[::-1])
    assert [{prompts[79 - place] for place in test} for test in backwards] == [
        {prompts[place] for place in test} for test in by_prompt
    ]


ROWS = [
    ("anna", "a/0.mp4", "a cat", 1, 5), ("anna", "b/0.mp4", "a cat", 3, 4), ("anna", "a/1.mp4", "a dog", 5, 1),
    ("ben", "a/0.mp4", "a cat", 2, 5), ("ben", "b/0.mp4", "a cat", 3, 3), ("ben", "a/1.mp4", "a dog", 4, 2),
]  # fmt: skip
COLUMNS = ("subject", "video", "prompt", "static", "temporal")


def test_wide_and_long_tables_say_the_same(tmp_path):
    write_csv(tmp_path / "wide.csv", COLUMNS, ROWS)
    long = [
        {"subject": who, "video": video, "prompt": prompt, "dimension": name, "rating": rating}
        for who, video, prompt, *ratings in ROWS
        for name, rating in zip(COLUMNS[3:], ratings, strict=True)
    ]
    write_jsonl(tmp_path / "long.jsonl", long)
    wide, other = (read_ratings(tmp_path / name, (1, 5)) for name in ("wide.csv", "long.jsonl"))
    assert wide.ratings["static"].tolist() == [[1, 3, 5], [2, 3, 4]]
    assert all(np.array_equal(wide.ratings[name], other.ratings[name]) for name in COLUMNS[3:])
    assert (wide.subjects, wide.videos, wide.about) == (other.subjects, other.videos, other.about)
    assert not wide.bad and wide.about["a/1.mp4"] == {"prompt": "a dog"}
    assert list(read_ratings(tmp_path / "wide.csv", (1, 5), ["temporal"]).ratings) == ["temporal"]


def test_bad_rows_are_listed_and_left_out(tmp_path):
    rows = [*ROWS, ("", "a/0.mp4", "", 1, 1), ("carl", "", "", 1, 1), ("carl", "a/0.mp4", "", 6, "nan"),
            ("carl", "b/0.mp4", "", "good", ""), ("anna", "a/0.mp4", "", 2, "")]  # fmt: skip
    write_csv(tmp_path / "wide.csv", COLUMNS, rows)
    table = read_ratings(tmp_path / "wide.csv", (1, 5))
    assert [row.split(", ", 1)[1] for row in table.bad] == [
        "row 7: no subject", "row 8: no video", "row 9: static is '6', no number from 1 to 5",
        "row 9: temporal is 'nan', no number from 1 to 5", "row 10: static is 'good', no number from 1 to 5",
        "row 11: anna has rated the static of a/0.mp4 before",
    ]  # fmt: skip
    assert table.subjects == ["anna", "ben"]


@pytest.mark.parametrize(
    ("columns", "row", "says"),
    [(("who", "video", "rating"), ["a", "v", 1], "no column subject"), (("subject", "video"), ["a", "v"], "nothing is"),
     (("subject", "video", "rating"), ["a", "v", 9], "no rating that can be used, such as .*row 1: rating is '9'")],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_told(tmp_path, columns, row, says):
    write_csv(tmp_path / "ratings.csv", columns, [row])
    with pytest.raises(InputError, match=says):
        read_ratings(tmp_path / "ratings.csv", (1, 5))
    with pytest.raises(InputError, match="cannot be read"):
        read_ratings(tmp_path / "nowhere.csv", (1, 5))
    with pytest.raises(InputError, match="no column sound"):
        read_ratings(tmp_path / "ratings.csv", (1, 5), ["sound"]) if "subject" in columns else read_ratings(
            write_and_name(tmp_path), (1, 5), ["sound"]
        )


def write_and_name(folder: Path) -> Path:
    write_csv(folder / "other.csv", ("subject", "video", "rating"), [["a", "v", 1]])
    return folder / "other.csv"


def test_the_command_makes_a_data_set(tmp_path, capsys):
    write_csv(tmp_path / "raw.csv", COLUMNS, [*ROWS, ("ben", "a/2.mp4", "a dog", 9, 2)])
    output = tmp_path / "out"
    process_ratings.main(["--ratings", str(tmp_path / "raw.csv"), "--output", str(output)])
    shown = " ".join(capsys.readouterr().err.split())
    assert "Ten splits by prompt: " in shown and " test videos each, 0 % of them" in shown
    assert "Ten splits by video" in shown and "row 7: static is '9'" in shown
    assert "1 videos lack a score in some dimension" in shown
    results, splits = (json.loads((output / f"{name}.json").read_text()) for name in ("results", "splits"))
    assert (results["videos"], len(results["bad_rows"])) == (3, 1)
    assert results["dimensions"]["static"]["subjects"] == 2 and results["splits"]["video"]["shared"] > 0
    assert len(splits["prompt"]["test"]) == 10 and splits["prompt"]["shared"] == [0.0] * 10
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"0")
    place(output, [clip], ["a/0.mp4", "b/0.mp4", "a/1.mp4"])
    items = read_dataset("own_ratings", output).items
    assert [item.prompt for item in items] == ["a cat", "a cat", "a dog"]
    np.testing.assert_allclose([item.scores["static"] for item in items],
                               mean_opinion_scores([[1, 3, 5], [2, 3, 4]]))  # fmt: skip
    assert items[0].path.endswith("a/0.mp4")


def test_the_command_screens(tmp_path, capsys):
    case = CASES["complete"]
    rows = [[f"s{i}", f"{j}.mp4", rating] for i, row in enumerate(case["ratings"]) for j, rating in enumerate(row)]
    write_csv(tmp_path / "raw.csv", ("subject", "video", "rating"), rows)
    line = ["--ratings", str(tmp_path / "raw.csv"), "--output", str(tmp_path / "out")]
    process_ratings.main(line)
    assert "(s3)" in capsys.readouterr().err
    process_ratings.main([*line, "--screening", "bt500"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())["dimensions"]["overall"]
    assert results["rejected"] == ["s3"] and results["ratings"] == 11 * 20
    lines = (tmp_path / "out" / "MOS.csv").read_text().splitlines()
    scores = [float(line.split(",")[1]) for line in lines[1:]]
    np.testing.assert_allclose(scores, case["bt500"]["mos_after_rejection"], rtol=0, atol=1e-9)
    with pytest.raises(SystemExit) as ended:
        process_ratings.main([*line, "--scale", "[5, 1]"])
    assert ended.value.code == 2


def test_zero_is_a_name(tmp_path):
    rows = [{"subject": s, "video": v, "dimension": 0, "model": 0, "rating": 3} for s in (0, 1) for v in (0, 1)]
    write_jsonl(tmp_path / "ratings.jsonl", rows)
    table = read_ratings(tmp_path / "ratings.jsonl", (1, 5))
    assert (table.subjects, table.videos, list(table.ratings), table.bad) == (["0", "1"], ["0", "1"], ["0"], [])
    assert table.about["0"] == {"model": "0"}
