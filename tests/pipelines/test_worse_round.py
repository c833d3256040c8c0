"""A real run, on the world that ships, whose second round learns from swapped labels: its first round is kept."""

from dataclasses import replace

import pytest
from safetensors.torch import load_file
from small_loop import MODELS, config, shipped_judge

from pipelines.loop.export import export_final
from pipelines.loop.phases import turns
from pipelines.loop.run import Run
from shapes_world import all_scenes
from videoduet.records import PreferencePair
from videoduet.store import read_json, read_records, write_records
from videoduet.tables import read_lines


def swap(run: Run, number: int) -> None:
    """What the judge called worse, the generator learns to prefer."""
    file = run.folder("rank", number) / "pairs.parquet"
    pairs = read_records(PreferencePair, file)
    swapped = [replace(pair, chosen_id=pair.rejected_id, rejected_id=pair.chosen_id) for pair in pairs]
    write_records(file, swapped, PreferencePair)


@pytest.mark.slow
@shipped_judge
def test_a_round_that_is_made_worse_on_purpose_is_not_kept(tmp_path):
    # As many as the default run has, and its training: a first round of less is not surely better than the base.
    train = read_lines(MODELS / "prompts.txt")
    # Half of them bet: so many that a win rate of two in three is sure.
    held_out = [scene.prompt for scene in all_scenes() if scene.prompt not in train][::2][:112]
    for name, prompts in (("train", train), ("held_out", held_out)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    settings = config(
        tmp_path,
        generator={"sampler": {"steps": 4, "guidance_scale": 1.0, "num_frames": 8}, "videos_per_prompt": 8,
                   "batch_size": 16},
        judge={"factory": "benchmarks.flawed_judges.Oracle", "second_path": str(MODELS / "second_judge")},
        pairs={"pairs_per_prompt": 9},
        align={"beta": 500.0, "sdpo_mu": 0.9, "learning_rate": 1.0e-3, "lr_scheduler": "linear", "batch_size": 8,
               "micro_batch": 8, "draws_per_pair": 1, "epochs": 3, "lora_rank": 32, "lora_alpha": 32, "max_steps": 60},
    )  # fmt: skip
    run = Run.start(settings)
    for turn in turns(2):
        if turn.phase.first_round is not None and not run.leaves_out(turn):
            turn.do(run)
            if turn.path == "round_01/rank":
                swap(run, 1)
    export_final(run)
    first, second = run.measured()[1], run.measured()[2]
    told = {
        name: {other: bet.e_better for other, bet in one.bets.items()} for name, one in (("1", first), ("2", second))
    }
    choice = read_json(run.folder("final") / "choice.json")
    assert choice["version"] == "G_1", (told, choice)
    kept, trained = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (run.folder("final") / "generator", run.folder("align", 0) / "adapter")
    )
    assert all((kept[name] == trained[name]).all() for name in trained)
    assert second.win_rate["second_judge"]["rate"] < first.win_rate["second_judge"]["rate"]
