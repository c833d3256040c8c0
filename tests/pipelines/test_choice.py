"""Which round is kept: bets of a second judge, on prompts that do not report, and what final/ then holds."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from scripted_judges import Brightest
from small_loop import do
from test_report import text_of

from pipelines.loop.choice import best_so_far, bet, chosen, halves, said, spent
from pipelines.loop.config import parse
from pipelines.loop.directory import RunDirectory
from pipelines.loop.driver import drive
from pipelines.loop.phases import Turn, phase_of
from pipelines.loop.plan import counted
from pipelines.loop.rival import rival
from pipelines.loop.run import Run
from pipelines.loop.summaries import Bet, MeasureSummary, read_summary, write_summary
from pipelines.report import write_report
from videoduet.records import Comparison, OrderVerdict, Prompt, Sample, SamplerSettings, Video, VideoPair
from videoduet.store import read_json, read_records

PROMPTS = [Prompt.of(f"prompt {number}") for number in range(40)]


def won(prompt: Prompt, first: str, second: str, winner: str) -> Comparison:
    names = ("first", "second") if winner == "first" else ("second", "first")
    pair = VideoPair(prompt=prompt, first=Video(id=first, path=first), second=Video(id=second, path=second))
    return Comparison.of(pair, "judge", *(OrderVerdict(text="", verdict=name) for name in names))


def the_bet(better: float = 1.0, worse: float = 1.0) -> Bet:
    return Bet(prompts=20, e_better=better, e_worse=worse, better=better >= 20, worse=worse >= 20)


def measured(*rounds: tuple[dict[str, Bet], str]) -> dict[int, MeasureSummary]:
    return {
        number: MeasureSummary(version=f"G_{number}", win_rate={}, bets=bets, best=best)
        for number, (bets, best) in enumerate(rounds, 1)
    }


def test_prompts_that_choose_do_not_report():
    betting, reporting = halves(PROMPTS, 0)
    assert len(betting) == len(reporting) == 20 and {*betting} | {*reporting} == {*PROMPTS}
    assert halves(PROMPTS[::-1], 0) == (betting, reporting) and halves(PROMPTS, 1)[0] != betting
    assert [len(part) for part in halves(PROMPTS[:1], 0)] == [0, 1]


def test_a_prompt_is_one_bet():
    """However many videos it has; what was not decided, or not drawn, counts ½."""
    prompts = PROMPTS[:10]
    once = [won(prompt, "a", "b", "first") for prompt in prompts]
    twice = [won(prompt, f"{n}a", "b", "first") for prompt in prompts for n in range(2)]
    assert bet(once, prompts, 1) == bet(twice, prompts, 2)
    found = bet(once, prompts, 1)
    assert found.better and not found.worse and found.prompts == 10 and found.e_better > 20 > 1 > found.e_worse
    assert bet(once, prompts, 2).e_better < found.e_better, "half of the videos are missing"
    lost = bet([won(prompt, "a", "b", "second") for prompt in prompts], prompts, 1)
    assert (lost.e_better, lost.e_worse, lost.worse) == (found.e_worse, found.e_better, True)
    assert bet(once, PROMPTS[10:], 1).e_better == 1.0, "prompts that do not bet change nothing"


def test_what_better_takes_depends_on_the_rounds_before():
    prompts = PROMPTS[:10]
    wins = [won(prompt, "a", "b", "first") for prompt in prompts]
    assert bet(wins, prompts, 1).better and not bet(wins, prompts, 1, level=1e-4).better
    assert bet(wins, prompts, 1, level=0.01).needed == pytest.approx(100)
    after = {
        "none": spent([]), "lost": spent([{"G_0": the_bet()}]), "won": spent([{"G_0": the_bet(30)}]), "old": spent([{}])
    }  # fmt: skip
    assert after["none"].left == after["won"].left == after["old"].left > after["lost"].left
    assert after["won"].levels(both=True)[0] > after["lost"].levels(both=False)[0], "a round that was better helps"
    assert spent([{"G_0": the_bet(30)}, {"G_0": the_bet(30), "G_1": the_bet()}]).left < after["won"].left


@pytest.mark.parametrize(
    ("over_base", "over_best", "before", "expected"),
    [
        (the_bet(19), None, "G_0", "G_0"),
        (the_bet(21), None, "G_0", "G_2"),
        (the_bet(19), the_bet(21), "G_1", "G_2"),
        (the_bet(50), the_bet(2, 0.5), "G_1", "G_2"),
        (the_bet(50), the_bet(0.5, 2), "G_1", "G_1"),
        (the_bet(10), the_bet(2, 0.5), "G_1", "G_1"),
        (the_bet(0.1, 30), the_bet(0.1, 50), "G_1", "G_1"),
        (the_bet(0.1, 30), the_bet(50), "G_1", "G_1"),
    ],
)
def test_the_best_so_far(over_base, over_best, before, expected):
    bets = {"G_0": over_base, **({before: over_best} if over_best else {})}
    assert best_so_far("G_2", bets, before) == expected


def test_what_is_kept():
    unsure, worse, sure = ({"G_0": the_bet(*e)} for e in ((3.0, 0.3), (0.1, 30), (30, 0.1)))
    assert chosen(measured((sure, "G_1"), (unsure, "G_1")), 2, "best").number == 1
    assert chosen(measured((unsure, "G_0"), (sure, "G_2")), 2, "best").number == 2
    last = chosen(measured((unsure, "G_0"), (unsure, "G_0")), 2, "best")
    assert (last.number, last.sure) == (2, False) and "the last round is kept" in last.reason
    first = chosen(measured((unsure, "G_0"), (worse, "G_0")), 2, "best")
    assert (first.number, first.sure) == (1, False) and "G_1, the last not shown worse, is kept" in first.reason
    none = chosen(measured((worse, "G_0"), (worse, "G_0")), 2, "best")
    assert (none.number, none.sure) == (0, False) and "worse than the base" in none.reason
    assert chosen(measured((sure, "G_1"), (worse, "G_1")), 2, "last").number == 2
    assert said(sure) == "better than the base" and said(unsure) == "not yet surely better or worse"


def test_two_held_out_prompts_choose_nothing_and_it_is_said():
    few = {"G_0": replace(the_bet(), prompts=1)}
    found = chosen(measured((few, "G_0"), (few, "G_0")), 2, "best")
    expected = "2 held-out prompts cannot show which round is better; give at least 14; the last round is kept."
    assert found.reason == expected and found.number == 2 and not found.sure


def test_a_run_that_never_bet_keeps_its_last_round_without_a_word():
    plain = {1: MeasureSummary(version="G_1", win_rate={}), **measured(({}, "G_0"))}
    assert chosen(plain, 1, "best") is None and chosen({}, 2, "best") is None


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Run:
    """The finished run with a second judge, about to be measured."""
    root = Path(shutil.copytree(finished.root, tmp_path / "run"))
    for name in ("round_00/measure", "round_01/measure", "final"):
        shutil.rmtree(root / name)
    (root / "score" / "done.json").unlink()
    monkeypatch.setattr(Run, "load_judge", lambda *_, **__: Brightest())
    settings = replace(finished.config, run_dir=str(root))
    return Run(RunDirectory(root), replace(settings, judge=replace(settings.judge, second_path=str(tmp_path))))


def rewritten(run: Run, number: int, bets: dict[str, Bet], best: str) -> None:
    folder = run.folder("measure", number)
    write_summary(folder, replace(read_summary(MeasureSummary, folder), bets=bets, best=best))


def test_a_measurement_bets_and_reports(run):
    for number in (0, 1):
        do(run, "measure", number)
    found = run.measured()
    assert [found[n].bets["G_0"].prompts for n in (1, 2)] == [1, 1] and found[2].best == "G_0"
    assert found[1].reported["total"] == 1 and found[1].win_rate["second_judge"]["total"] == 2
    assert found[1].best_of == {}, "four prompts tell nothing of the best of two"


def test_the_best_so_far_is_bet_against_on_the_prompts_that_bet(run):
    do(run, "measure", 0)
    rewritten(run, 0, {"G_0": the_bet(30)}, "G_1")
    do(run, "measure", 1)
    found = read_summary(MeasureSummary, run.folder("measure", 1))
    assert list(found.bets) == ["G_0", "G_1"] and found.best == "G_1"
    kept = run.folder("score") / "comparisons_second_judge_G_2_over_G_1.parquet"
    assert len(read_records(Comparison, kept)) == 1
    # A sibling that shares both rounds has it, too.
    run.directory.adopt(run.config, "made", again=True)
    sibling = run.directory.sibling("score", run.config)
    assert (sibling.root / "score" / kept.name).exists()


@pytest.mark.parametrize(("keep", "version"), [("best", 1), ("last", 2)])
def test_final_holds_what_is_kept(run, keep, version, no_report):
    for number in (0, 1):
        do(run, "measure", number)
    rewritten(run, 0, {"G_0": the_bet(30)}, "G_1")
    rewritten(run, 1, {"G_0": the_bet(2), "G_1": the_bet(0.1, 25)}, "G_1")
    run.config = replace(run.config, score=replace(run.config.score, keep=keep))
    drive(run, merge=False, after_each=lambda: None)
    final, adapter = run.folder("final") / "generator", run.generator_adapter(version)
    tensors, expected = (load_file(folder / "adapter_model.safetensors") for folder in (final, adapter))
    assert all((tensors[name] == expected[name]).all() for name in expected)
    choice = read_json(run.folder("final") / "choice.json")
    assert choice["version"] == f"G_{version}" and choice["reported"]["total"] == 1
    assert choice["sure"] == (version == 1)


def test_the_report_is_about_what_is_kept(run):
    for number in (0, 1):
        do(run, "measure", number)
    rewritten(run, 0, {"G_0": the_bet(30)}, "G_1")
    rewritten(run, 1, {"G_0": the_bet(2), "G_1": the_bet(0.1, 25)}, "G_1")
    folder = run.folder("measure", 0)
    best_of = {"n": 3, "rate": 0.625, "low": 0.4, "high": 0.8, "decided": 8, "total": 8}
    write_summary(folder, replace(read_summary(MeasureSummary, folder), best_of=best_of))
    drive(run, merge=False, after_each=lambda: None)
    text = text_of(write_report(run.directory.root).read_text("utf-8"))
    assert "G_1 beats the base in" in text and "of 1 held-out cases that did not choose it" in text
    assert "final/ holds G_1" in text and "surely worse than G_1 (evidence of better 0.1, of worse 25)" in text
    assert "best of 3" in text and "62 % (40 to 80) of 8 cases" in text
    assert "G_1 (aligned)" in text and "G_2 (aligned)" not in text


def test_no_round_follows_one_that_is_worse(run):
    do(run, "measure", 0)
    rewritten(run, 0, {"G_0": the_bet(0.1, 25)}, "G_0")
    later = Turn(phase_of("sample"), 1)
    assert run.rounds == 2 and not run.leaves_out(later)
    run.config = replace(run.config, score=replace(run.config.score, stop="when_worse"))
    assert run.rounds == 1 and run.leaves_out(later)
    shutil.rmtree(run.folder("align", 1))
    drive(run, merge=False, after_each=lambda: None)
    assert not run.folder("align", 1).exists() and read_json(run.folder("score") / "summary.json")["versions"] == [
        "G_0", "G_1",
    ]  # fmt: skip
    choice = read_json(run.folder("final") / "choice.json")
    assert choice["version"] == "G_0" and choice["reported"] == {}, "nothing that was learned is kept"


SETTINGS = SamplerSettings(steps=1, guidance_scale=1.0, fps=8, num_frames=4, height=8, width=8)


def drawn(prompt: Prompt, index: int) -> Sample:
    name = f"{prompt.id}_{index}"
    return Sample(
        id=name, prompt_id=prompt.id, index=index, seed=index, generator="G_0", round=0, settings=SETTINGS,
        video_path=name, latents_path=name, index_in_shard=0,
    )  # fmt: skip


def test_the_best_of_the_base_is_not_compared_with_what_it_was_picked_from():
    """Of four videos the judge prefers the third; the fourth, which it likes more, is kept apart."""
    samples = [drawn(prompt, index) for prompt in PROMPTS[:9] for index in range(4)]
    order = [0, 1, 3, 9]
    said = [
        won(prompt, f"{prompt.id}_{a}", f"{prompt.id}_{b}", "first" if order[a] > order[b] else "second")
        for prompt in PROMPTS[:9]
        for a in range(4)
        for b in range(a)
    ]
    found = rival(PROMPTS[:9], samples, said, 8)
    assert found.n == 3 and len(found.pairs) == 8
    assert all(pair.first.id.endswith("_2") and pair.second.id.endswith("_3") for pair in found.pairs)
    assert rival(PROMPTS[:5], samples, said, 8) is None, "five prompts tell nothing"
    assert rival(PROMPTS[:9], [one for one in samples if one.index < 2], said, 8) is None, "nothing to pick from"
    without = [one for one in samples if one.id != f"{PROMPTS[0].id}_3"]
    assert len(rival(PROMPTS[:9], without, said, 99).pairs) == 8


def test_choosing_is_planned():
    plain, more = (counted(parse(["--rounds", str(rounds)])[0], 64, 32) for rounds in (1, 3))
    assert plain["choosing rollouts"] == 2 * 64, "the best of the base's videos for each training prompt"
    assert more["choosing rollouts"] - plain["choosing rollouts"] == 2 * 2 * 32
    alone, _ = parse(["--judge.second_path", "null"])
    assert counted(alone, 64, 32)["choosing rollouts"] == 0
