"""Publishing on the hub: what is sent, to whom it is shown, and what is said where it cannot be sent."""

import json
import shutil

import huggingface_hub
import pytest
import yaml
from hub_server import TOKEN, serving

from pipelines import export, push_to_hub, share, united_finetune
from pipelines.report.publishing import publish_export
from videoduet import hub as publishing
from videoduet.errors import InputError
from videoduet.store import read_json, write_json


@pytest.fixture
def hub(monkeypatch):
    with serving() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def pushed(*arguments: object) -> int:
    try:
        push_to_hub.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def test_an_old_run_is_published_whole_and_private(judged_run, hub, capsys):
    assert pushed("--folder", judged_run, "--repository", "somebody/aligned") == 0
    assert hub.private == {("model", "somebody/aligned-generator"): True, ("model", "somebody/aligned-judge"): True}
    assert f"{hub.url}/somebody/aligned-judge" in capsys.readouterr().err
    files = hub.files["model", "somebody/aligned-generator"]
    adapter = judged_run / "final/generator"
    assert files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert files.keys() == {path.name for path in adapter.iterdir()}
    # The card calls itself by its name, and nothing says where on this disk the base was.
    card = files["README.md"].decode()
    assert 'from_pretrained(unet, "somebody/aligned-generator")' in card and "this/directory" not in card
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "shapes_world/generator"
    assert not [name for name, data in files.items() if str(judged_run.parent).encode() in data]


def test_a_second_time_is_one_more_commit(judged_run, hub):
    judge = judged_run / "final/judge"
    assert pushed("--folder", judge, "--repository", "somebody/judge", "--public", "true") == 0
    (judge / "more.json").write_text("{}")
    assert pushed("--folder", judge, "--repository", "somebody/judge") == 0
    assert hub.private == {("model", "somebody/judge"): False}
    assert "more.json" in hub.files["model", "somebody/judge"]


def test_exports_and_data_sets_are_published_by_the_command_that_writes_them(finished, hub, tmp_path):
    adapter, out = finished.root / "final/generator", tmp_path / "lora"
    export.main(["--adapter", str(adapter), "--output", str(out), "--push_to_hub", "somebody/lora"])
    files = hub.files["model", "somebody/lora"]
    assert files.keys() == {"generator.safetensors", "README.md"}
    header = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert header["library_name"] == "diffusers" and header["tags"][:2] == ["videoduet", "lora"]
    loaded = 'pipe.load_lora_weights("somebody/lora", weight_name="generator.safetensors")'
    assert loaded in files["README.md"].decode() and "Win rate of G_2" in files["README.md"].decode()
    share.main(
        ["--sources", f"[{finished.root}]", "--output", str(tmp_path / "data"), "--push_to_hub", "somebody/data"]
    )
    assert hub.private["dataset", "somebody/data"]
    assert hub.files["dataset", "somebody/data"].keys() == {path.name for path in (tmp_path / "data").iterdir()}


def test_whole_models_name_no_path_either(judged_run, hub):
    merged = judged_run / "final/merged_generator"
    (merged / "unet").mkdir(parents=True)
    write_json(merged / "model_index.json", {"_class_name": "T2VTurboPipeline", "_name_or_path": "/home/me/base"})
    write_json(merged / "unet/config.json", {"_name_or_path": "/home/me/base/unet"})
    (merged / ".cache").write_text("hidden")
    publish_export(merged, "somebody/whole")
    files = hub.files["model", "somebody/whole"]
    assert files.keys() == {"model_index.json", "unet/config.json", "README.md"}
    assert not [name for name, data in files.items() if b"/home/me" in data]
    card = files["README.md"].decode()
    assert "The weights of the text-to-video generator shapes_world/generator with a LoRA" in card
    assert (
        'from generators import T2VTurboPipeline\n\npipe = T2VTurboPipeline.from_pretrained("somebody/whole")' in card
    )
    assert "lora" not in yaml.safe_load(card.split("---")[1])["tags"]


def test_an_adapter_with_the_libraries_form_gets_a_card(finished, hub, tmp_path):
    adapter = shutil.copytree(finished.root / "round_00/align/adapter", tmp_path / "adapter")
    (adapter / "README.md").write_text("## Model Details\n\n- **Developed by:** [More Information Needed]\n")
    publish_export(adapter, "somebody/adapter")
    card = hub.files["model", "somebody/adapter"]["README.md"].decode()
    assert "came without the run that made it" in card and "More Information" not in card


def test_what_cannot_be_published_is_told_in_a_sentence(judged_run, hub, tmp_path, monkeypatch, capsys):
    def told(folder, name: str = "somebody/x") -> str:
        assert pushed("--folder", folder, "--repository", name) != 0
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        return lines[0]

    generator = judged_run / "final/generator"
    assert "is nothing to publish" in told(tmp_path)
    assert "names no owner; give OWNER/NAME" in told(generator, "name")
    assert "cannot be a repository's name" in told(generator, "a b/c")
    hub.read_only = True
    assert "was not published (403" in told(generator) and not hub.files
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not know who publishes (Invalid user token" in told(generator)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "look at the network" in told(generator)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "no token of the hub" in told(generator) and "hf auth login" in told(generator)


def test_a_run_asks_for_the_token_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SystemExit) as stop:
        united_finetune.main(["--run_dir", str(tmp_path / "run"), "--push_to_hub", "somebody/x"])
    assert stop.value.code == 1 and not (tmp_path / "run").exists()
    assert "no token of the hub to publish somebody/x-generator" in capsys.readouterr().err


def test_operations_are_what_is_in_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("README.md", "a/b.txt", ".hidden", "c.json"):
        (tmp_path / name).write_text(f"{name} in this/directory")
    found = {
        each.path_in_repo: each.path_or_fileobj for each in publishing.operations(tmp_path, "o/n", {"c.json": b"2"})
    }
    assert list(found) == ["README.md", "a/b.txt", "c.json"]
    assert found["README.md"] == b"README.md in o/n" and found["c.json"] == b"2"
    with pytest.raises(InputError, match="names no owner"):
        publishing.check_name("alone")


def test_cards_pass_the_hub_s_rules(judged_run):
    """What the hub's own check asks of a header, offline: it is YAML of known keys and their types."""
    from pipelines.report.cards import write_cards

    for path in write_cards(judged_run):
        data = huggingface_hub.ModelCard.load(path).data
        assert isinstance(data.tags, list) and data.license in (None, "apache-2.0")
        assert read_json(path.parent / "adapter_config.json")
