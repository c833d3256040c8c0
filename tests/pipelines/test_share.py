"""A run's videos, verdicts and pairs as a data set: loaded by ``datasets``, merged, and read back."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from datasets import Video, load_dataset

from alignment.preferences.stored import read_preferences
from pipelines import share
from reward_model.judging.recorded import RecordedJudge
from videoduet.errors import InputError
from videoduet.records import Comparison, PreferencePair, Prompt, Sample, VideoPair
from videoduet.store import content_hash, read_records, write_records


def shared(output, *sources):
    share.main(["--sources", str([*map(str, sources)]), "--output", str(output)])
    return output


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    return shared(tmp_path_factory.mktemp("shared") / "one", finished.root)


def test_datasets_loads_all_three_tables(folder, finished, tmp_path):
    tables = {
        name: load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path))
        for name in ("pairs", "comparisons", "videos")
    }
    drawn = read_records(Sample, *finished.root.glob("**/samples_*.parquet"))
    videos = tables["videos"].cast_column("video", Video(decode=False))
    assert set(videos["id"]) == {sample.id for sample in drawn}
    one, file = videos[0], tmp_path / "one.mp4"
    file.write_bytes(one["video"]["bytes"])
    assert content_hash(file) == one["id"] and one["prompt"]
    pairs = read_records(PreferencePair, *finished.root.glob("**/pairs.parquet"))
    assert set(zip(tables["pairs"]["chosen_id"], tables["pairs"]["rejected_id"], strict=True)) == {
        (pair.chosen_id, pair.rejected_id) for pair in pairs
    }
    assert set(tables["comparisons"]["first_id"]) <= set(videos["id"])


def test_pairs_are_read_back_for_training(folder, finished, tmp_path):
    pairs, problems = read_preferences(str(folder), tmp_path / "videos")
    expected = read_records(PreferencePair, *finished.root.glob("**/pairs.parquet"))
    assert not problems and len(pairs) == len({(pair.chosen_id, pair.rejected_id) for pair in expected})
    margins = {(pair.chosen_id, pair.rejected_id): pair.margin for pair in expected}
    for pair in pairs:
        assert content_hash(pair.chosen) == pair.chosen.stem
        assert margins[pair.chosen.stem, pair.rejected.stem] == pair.margin


def test_what_two_sources_hold_is_kept_once(folder, finished, tmp_path):
    merged = shared(tmp_path / "both", folder, finished.root, folder)
    for name in ("pairs", "comparisons", "videos"):
        one, both = (pq.read_table(path / f"{name}.parquet") for path in (folder, merged))
        key = {"pairs": "chosen_id", "comparisons": "first_id", "videos": "id"}[name]
        assert one.num_rows and sorted(one[key].to_pylist()) == sorted(both[key].to_pylist()), name


def test_recorded_verdicts_are_a_judge(folder, finished):
    given = read_records(Comparison, folder / "comparisons.parquet")
    samples = {sample.id: sample.video for sample in read_records(
        Sample, *finished.root.glob("**/samples_*.parquet"), root=finished.root
    )}  # fmt: skip
    prompts = {
        prompt.id: prompt
        for name in ("prompts.parquet", "score/prompts.parquet")
        for prompt in read_records(Prompt, finished.root / name)
    }
    judge = RecordedJudge(str(folder), judge_id=given[0].judge_id)
    mine = [comparison for comparison in given if comparison.judge_id == given[0].judge_id]
    pairs = [
        VideoPair(prompt=prompts[one.prompt_id], first=samples[one.first_id], second=samples[one.second_id])
        for one in mine
    ]
    assert list(judge.compare(pairs)) == mine
    turned = [VideoPair(prompt=pair.prompt, first=pair.second, second=pair.first) for pair in pairs]
    for back, one in zip(judge.compare(turned), mine, strict=True):
        assert (back.preferred_id, back.status) == (one.preferred_id, one.status)
        assert (back.forward, back.backward) == (one.backward, one.forward)
    with pytest.raises(InputError, match=r"is recorded; give judge\.arguments\.otherwise"):
        list(judge.compare([VideoPair(prompt=Prompt.of("another"), first=pairs[0].first, second=pairs[0].second)]))


def test_what_is_not_recorded_is_asked_at_once_and_in_order(folder, finished, tmp_path):
    given = read_records(Comparison, folder / "comparisons.parquet")
    few = tmp_path / "few"
    few.mkdir()
    # Another judge's opinion of the same two, the other way round, comes later and does not count.
    one = given[0]
    other = replace(one, first_id=one.second_id, second_id=one.first_id, judge_id="another")
    write_records(few / "comparisons.parquet", [one, other], Comparison)
    samples = read_records(Sample, *finished.root.glob("**/samples_*.parquet"), root=finished.root)
    videos = {sample.id: sample.video for sample in samples}
    prompts = {prompt.id: prompt for prompt in read_records(Prompt, finished.root / "prompts.parquet")}
    asked = {comparison.id: comparison for comparison in given if comparison.prompt_id in prompts}.values()
    pairs = [
        VideoPair(prompt=prompts[each.prompt_id], first=videos[each.first_id], second=videos[each.second_id])
        for each in asked
    ]
    calls = tmp_path / "calls"
    judge = RecordedJudge(
        str(few), otherwise={"factory": "scripted_judges.Brightest", "arguments": {"calls": str(calls)}}
    )
    answers = list(judge.compare(pairs))
    assert [(each.first_id, each.second_id) for each in answers] == [(each.first.id, each.second.id) for each in pairs]
    assert len(calls.read_text().splitlines()) == len(pairs) - 1
    first = next(pair for pair in pairs if pair.first.id == one.first_id and pair.second.id == one.second_id)
    (back,) = judge.compare([VideoPair(prompt=first.prompt, first=first.second, second=first.first)])
    assert back.judge_id == one.judge_id


@pytest.mark.parametrize("word", ["neither a run", "there already"])
def test_bad_sources_are_one_sentence(word, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    output = tmp_path / ("there" if "already" in word else "new")
    with pytest.raises(SystemExit):
        shared(output, tmp_path / "there")
    assert word in " ".join(capsys.readouterr().err.split())
