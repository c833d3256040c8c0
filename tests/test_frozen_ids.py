"""What is hashed into ids and seeds never changes: caches, run directories and videos of earlier versions go by it.

Every constant was computed by the first release's code. If one of these tests fails, the code is wrong, not the test.
"""

import ast
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from source_tree import ROOT, files, tree

from alignment.training.config import AlignConfig
from alignment.training.latent_cache import LatentCache
from alignment.training.schedule import pair_id, schedule, split_held_out
from alignment.training.trainer import _run_key
from reward_model import Judge
from reward_model.judging.config import Decoding, ServerSettings
from reward_model.judging.server import ServerJudge
from reward_model.presets import PRESETS
from reward_model.prompts import DEFAULT_PROMPT, wording_id
from reward_model.training.trainer import showings
from videoduet.prompt_sets import read_prompts
from videoduet.records import (
    Comparison,
    LabelledPair,
    OrderVerdict,
    PreferencePair,
    Prompt,
    Sample,
    SamplerSettings,
    Video,
    VideoPair,
    stable_id,
)
from videoduet.seeding import seed_for
from videoduet.store import read_records
from videoduet.video import video_id

MODELS = ROOT / "shapes_world" / "models"
OLD_RUN = ROOT / "tests" / "fixtures" / "run_16c8d0d"
SEEDS = {
    (0, "sample", 1, "69077d91b33b61e9", 2): 7497659975218962698,
    (0, "score", "69077d91b33b61e9", 0): 4875768456339678901,
    (0, "align", 1): 2329763606405721282,
    (0, "refresh", 1): 2813574659424284446,
    (3, "69077d91b33b61e9", 0): 3376927631188643657,
    (0, "order", 2): 7134329730502773755,
    (0, "draw", "0123456789abcdef", 1, 0): 2622155119198049089,
    ("held out", "69077d91b33b61e9"): 5516615558029713359,
    (0, "lora"): 1882494779135424666,
    (0, "mixture"): 1082599571921775892,
    (0, "visit", 1): 5438523126111338999,
    (0, "order", 1, 5): 5775934163268318196,
    (0, "LGVQ", "visit", 1): 6601992504544392685,
    (0, "LGVQ", "order", 1, 5): 7878337001954001013,
    (0, "item", 7): 2017635788284659929,
    (0, "perturbation"): 597488850559361528,
    ("render", 5): 197075511190925837,
    ("damaged", 5): 6474300840076837051,
    ("pair", 5, 1): 8636789537677689000,
    ("pair", 5, 1, 0): 6546740710228941661,
    ("prompts",): 8483254592672609222,
    (11, 3, 1): 2041218137818860455,
}
"""An example of every way in which the project asks for a seed."""
CALLS = """
seed_for('damaged', _)
seed_for('held out', _)
seed_for('pair', _, _)
seed_for('pair', _, _, _)
seed_for('prompts')
seed_for('render', _)
seed_for(_, 'align', _)
seed_for(_, 'draw', _, _, _)
seed_for(_, 'item', _)
seed_for(_, 'lora')
seed_for(_, 'mixture')
seed_for(_, 'order', _)
seed_for(_, 'order', _, _)
seed_for(_, 'perturbation')
seed_for(_, 'refresh', _)
seed_for(_, 'sample', _, _, _)
seed_for(_, 'score', _, _)
seed_for(_, 'visit', _)
stable_id('server', _, _, _)
stable_id('vllm', _, _, _, _)
"""
"""Every call with a word in it, as it must be found in the code."""
NEW_CALLS = """
seed_for('moving', _)
seed_for('slowfast', _)
stable_id('factory', _, _)
seed_for(_, 'version', _, _)
seed_for('audit', _)
seed_for('audit', _, _)
seed_for(_, 'audit')
seed_for(_, 'choice', _)
seed_for(_, 'split', _, _)
seed_for('slowfast', _)
seed_for('moving', _)
seed_for('dropout', _)
seed_for(_, 'row', _)
seed_for(_, 'validation', _)
"""
"""Calls that came later. Add what is new; a call above that is gone has changed what users have on disk."""


def preference(number: int) -> PreferencePair:
    return PreferencePair(
        prompt_id=Prompt.of(f"prompt {number}").id, chosen_id=f"{number:016x}", rejected_id=f"{number + 100:016x}",
        chosen_round=0, rejected_round=0, margin=0.5, agreement=1.0, comparison_ids=(), score=0.75,
    )  # fmt: skip


PREFERENCES = [preference(number) for number in range(6)]
PROMPT = Prompt.of("a red circle moving left")


def test_ids_and_seeds():
    assert [stable_id("a", 1, None), stable_id("é"), stable_id()] == [
        "4d4c921084b03999", "4a99557e4033c353", "e3b0c44298fc1c14",
    ]  # fmt: skip
    assert {parts: seed_for(*parts) for parts in SEEDS} == SEEDS


def test_the_words_in_seeds_and_ids_are_the_same_everywhere():
    def shape(call: ast.Call) -> str:
        constants = (repr(a.value) if isinstance(a, ast.Constant) else "_" for a in call.args)
        return f"{ast.unparse(call.func)}({', '.join(constants)})"

    calls = (node for path in files() for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
    found = {shape(call) for call in calls if ast.unparse(call.func) in ("seed_for", "stable_id")}
    worded = {call for call in found if "'" in call}
    assert worded >= set(CALLS.split("\n")[1:-1])
    assert worded <= {*CALLS.split("\n"), *NEW_CALLS.split("\n")}


def test_prompts_pairs_and_comparisons():
    assert PROMPT.id == "b4e63abe64d7098f"
    pair = VideoPair(prompt=PROMPT, first=Video(id="a" * 16, path="/a.mp4"), second=Video(id="b" * 16, path="/b.mp4"))
    comparison = Comparison.of(pair, "judge", OrderVerdict(text="1", verdict="first"))
    assert comparison.id == "f67027e48351635b"
    assert [pair_id(pair) for pair in PREFERENCES[:2]] == ["3c8c48bdce1f7e4a", "d6a3b0a8c9802751"]


def test_a_video_is_its_content(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"video")
    (tmp_path / "frames").mkdir()
    for number in range(2):
        (tmp_path / "frames" / f"{number}.png").write_bytes(bytes([number]))
    assert video_id(tmp_path / "frames") == "f74516706d3e94fc"
    assert video_id(tmp_path / "video.mp4") == "0cab1c9617404faf"


def test_a_subset_of_prompts(tmp_path):
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(10)))
    chosen = read_prompts(tmp_path / "prompts.txt", limit=3, subset_seed=7).prompts
    assert [prompt.text for prompt in chosen] == ["prompt 1", "prompt 6", "prompt 9"]


def test_what_a_training_draws_when():
    steps = schedule(3, epochs=2, draws_per_pair=2, batch_size=4, max_steps=None, seed=7)
    assert [[astuple(draw) for draw in step] for step in steps] == [
        [(2, 0, 1), (1, 0, 0), (0, 0, 0), (1, 0, 1)], [(0, 0, 1), (2, 0, 0)],
        [(2, 1, 1), (2, 1, 0), (1, 1, 1), (0, 1, 0)], [(0, 1, 1), (1, 1, 0)],
    ]  # fmt: skip
    assert [PREFERENCES.index(pair) for pair in split_held_out(PREFERENCES, 0.4)[1]] == [2, 5]


def test_which_training_a_directory_holds(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    changed = AlignConfig(beta=100.0, epochs=2)
    assert _run_key(PREFERENCES[:3], AlignConfig(), 7, None, "base", "main") == "fa8d55ddc9a60382"
    assert _run_key(PREFERENCES[:3], changed, 7, tmp_path, None, None) == "7e855ab493fdb128"


def test_which_latents_a_cache_holds():
    settings = SamplerSettings(steps=4, guidance_scale=7.5, fps=8, num_frames=16, height=320, width=512)
    generator = SimpleNamespace(
        settings=settings, denoiser=SimpleNamespace(dtype=torch.float32),
        initial_noise=lambda seed: torch.zeros(4, 16, 40, 64),
    )  # fmt: skip
    assert LatentCache(Path("/cache"), generator, "weights").path("video").name == "video_44a3c044e6128584.safetensors"
    assert LatentCache(Path("/cache"), generator, "weights", "as_stored").key == "6ebe1c112149f067"


@pytest.mark.parametrize(
    ("preset", "kind", "wording"),
    [
        ("general", "compare", "b1f096173e8efc9be02f9597e504dacd0be01516b142d042a81fcd268f441122"),
        ("general", "score", "a4019ed48a39a470d96544136f5eb879a45c1ebbe991b0a1febeb7cb55d1c77d"),
        ("general", "describe", "5752df460cfdd48e5503ce66dc4310aa813d96452f4c37e17c1507c596783c3f"),
        ("vqinsight-comp", "compare", "dfbae84451c5aadaa1138be5c8574698c879881264ff1e9c6c390a2fd0593588"),
        ("vqinsight-comp", "describe", "c949d90f5d6d0765d57b07336e03fa3c50c330e010747f4e14ea66a6ed837c0d"),
        ("vqinsight-aigcvideo", "score", "52242f07ef40c7f5bc010a850c6e77524a908da2c992a120fefa6472144abf49"),
        ("vqinsight-naturalvideo", "score", "d7dd66884d69eb33e3e04ae53b69cc471afd3b63cdc0fba27ae7078990aa1142"),
        ("vqathinker", "score", "f04bc5a3d61459b1df9ac21634faa10bc8281a45e8847ffd713083fb3f45fc3d"),
        ("vqathinker-train", "score", "fea33ee59366f54bdb394e24784feea2fd01d2a9db442e4dfcb57c9a8dbbe7b8"),
        ("aigv-assessor", "score", "ae68ce4a5794835daa50f68b7130b0693f639c884b7237a3b9af70609beee735"),
        ("unifiedreward-think", "compare", "5053665277ad6f0a6a48ae60a819894dd12e5e042ce589492049c7ea6e255481"),
        ("unifiedreward-think-qwen3", "compare", "385af689ae0edfd98103509cf8437349b4f55faabef0f8d5d58a499af75d9001"),
        ("unifiedreward-2.0", "compare", "c9a85502ee9736eaf10c05ae86074768d26e73746b48c3a56057d4a234585287"),
        ("unifiedreward-2.0", "score", "4149567a20c85322e3844efd71b6b008582b36bcc7b17756fed292103f70538a"),
        ("videoscore2", "score", "96913bd7853162eeac4305356d0bc6db53bfbd58c86c068cdd23d28c9db1f2db"),
        ("q-insight", "score", "0802fe104f1709f896c9db89da1e8f71b5ab22c41c3f511071fa598b0dbe53ac"),
    ],
)
def test_what_a_judge_is_asked(preset, kind, wording):
    assert wording_id(getattr(PRESETS[preset].prompts, kind)) == wording


def test_which_judge_it_is():
    server = ServerSettings("http://localhost:1/v1", "qwen")
    several = Decoding(samples=4, temperature=0.5)
    assert ServerJudge(server).judge_id == "8a9c09bd0a42989d"
    assert ServerJudge(server, preset="vqinsight-aigcvideo", decoding=several).judge_id == "fe0787358bda9a16"
    assert Judge.from_pretrained(MODELS / "judge").judge_id == "873a74a1870a67d1"
    assert Judge.from_pretrained(MODELS / "second_judge").judge_id == "734f76b6500007cb"
    adapter = OLD_RUN / "round_01" / "refresh" / "adapter"
    drawn = Judge.from_pretrained(MODELS / "judge", adapter=adapter, decoding=Decoding(samples=3))
    assert drawn.judge_id == "c94393b6f144faef"


def test_what_a_judge_learns_from_when():
    pairs = [
        LabelledPair(
            prompt=PROMPT, first=Video(id=str(number), path=f"/{number}a.mp4"),
            second=Video(id=str(number), path=f"/{number}b.mp4"), preferred="first",
        )
        for number in range(3)
    ]  # fmt: skip
    rows = showings(pairs, DEFAULT_PROMPT, 5, 6)
    assert [(row["prompt"][-1]["content"][1]["video"], row["preferred"]) for row in rows] == [
        ("/1b.mp4", "second"), ("/2b.mp4", "second"), ("/0a.mp4", "first"),
        ("/1a.mp4", "first"), ("/2b.mp4", "second"), ("/0a.mp4", "first"),
    ]  # fmt: skip


def test_the_samples_of_an_old_run_have_the_seeds_of_today():
    for round_number in (0, 1):
        [file] = (OLD_RUN / f"round_0{round_number}" / "sample").glob("samples_*.parquet")
        for sample in read_records(Sample, file):
            assert sample.seed == seed_for(0, "sample", round_number, sample.prompt_id, sample.index)
    for sample in read_records(Sample, OLD_RUN / "score" / "samples_G_0_00000.parquet"):
        assert sample.seed == seed_for(0, "score", sample.prompt_id, sample.index)
