"""Model cards of a run's exports: valid for the hub, no placeholder, and figures that are the run's."""

import json
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id

from pipelines.report.cards import base_name, licence_of, write_cards
from videoduet.store import read_json, write_json


@pytest.fixture
def run(judged_run):
    return judged_run


def test_a_finished_run_has_cards_that_say_what_it_found(run):
    cards = write_cards(run)
    assert [path.relative_to(run).as_posix() for path in cards] == [
        "final/generator/README.md",
        "final/judge/README.md",
    ]
    rates = read_json(run / "score/summary.json")["win_rate"]
    for path, kind in zip(cards, ("text-to-video", "video-text-to-text"), strict=True):
        card = ModelCard.load(path)
        assert card.data.pipeline_tag == kind and card.data.library_name == "peft" and "videoduet" in card.data.tags
        left_open = ("More Information", "[optional]", "{{", "}}", "TODO", "None", str(run), "/home", "/tmp")
        assert not [word for word in left_open if word in card.content]
    told = cards[0].read_text()
    figures = [(version, rate) for versions in rates.values() for version, rate in versions.items()]
    assert figures
    for version, rate in figures:
        assert version in told and f"{rate['rate']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})" in told


def test_the_loop_writes_them_at_its_end(finished):
    assert "## Limits" in (finished.root / "final/generator/README.md").read_text()


@pytest.mark.parametrize(
    ("path", "name", "is_hub_id"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", True),
        ("/x/hub/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/0af3/", "Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("/opt/site/shapes_world/models/generator", "shapes_world/generator", False),
        ("/data/people/models/t2v_turbo", "t2v_turbo", False),
        ("models/t2v_turbo/", "t2v_turbo", False),
        ("", "unknown", False),
    ],
)
def test_a_base_is_called_by_its_hub_id_or_its_last_name(path, name, is_hub_id, tmp_path, monkeypatch):
    (tmp_path / "models/t2v_turbo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert base_name(path) == (name, is_hub_id)
    if is_hub_id:
        validate_repo_id(name)


def test_the_base_s_id_and_licence_are_in_the_header(run):
    config = read_json(run / "final/generator/adapter_config.json")
    write_json(
        run / "final/generator/adapter_config.json",
        {**config, "base_model_name_or_path": "ali-vilab/text-to-video-ms-1.7b"},
    )
    card = write_cards(run)[0].read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == "ali-vilab/text-to-video-ms-1.7b" and header["license"] == "cc-by-nc-4.0"
    assert "not for commercial use" in card and json.dumps("ali-vilab/text-to-video-ms-1.7b") in card
    assert licence_of("someone/else") is None


def test_a_base_in_a_subfolder_of_the_hub_is_loaded_from_there(run):
    place = "/x/hub/models--ByteDance--Q-Insight/snapshots/0af3/vqinsight-comp"
    config = {**read_json(run / "final/judge/adapter_config.json"), "base_model_name_or_path": place}
    write_json(run / "final/judge/adapter_config.json", config)
    card = write_cards(run)[1].read_text()
    assert card.count('from_pretrained("ByteDance/Q-Insight", subfolder="vqinsight-comp")') == 2
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "ByteDance/Q-Insight"


def test_quotation_marks_are_not_escaped(run):
    for card in write_cards(run):
        assert "&#3" not in card.read_text()


def test_what_is_not_there_has_no_card(run):
    shutil.rmtree(run / "final/judge")
    shutil.rmtree(run / "score")
    (card,) = write_cards(run)
    assert "no judge has compared it with the base" in card.read_text()
