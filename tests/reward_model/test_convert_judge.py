"""Released InternVL checkpoints against vectors from the authors' own code (tests/golden/vqathinker_small)."""

import json
from pathlib import Path

import pytest
import torch
from released_judge import ABOUT, GOLDEN, release, released_state, run
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration

from reward_model.families import convert
from reward_model.judging.loading import load_model, load_processor
from reward_model.motion import MotionProjector, SlowFast
from reward_model.released_frames import normalised

FOREIGN = {"tokenizer_class": "Foreign", "auto_map": {"AutoTokenizer": ["tokenization_foreign.Foreign", None]}}
"""What a release says whose tokenizer is its own code."""


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return released_state()


@pytest.fixture(scope="module")
def converted(state, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("released")
    assert run("vqathinker", release(directory / "vqathinker", state), directory / "judge") == 0
    return directory / "judge"


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "vqathinker_small_io.safetensors")


@torch.no_grad()
@pytest.mark.parametrize(("case", "frames"), [("chat", "test"), ("train", "train")])
def test_frames_become_the_releases_vision_tokens(converted, vectors, case, frames):
    model = InternVLForConditionalGeneration.from_pretrained(converted, dtype=torch.float32).eval()
    pixels = normalised(vectors[f"frames_{frames}_uint8"]).flatten(0, 1)[:12]
    tokens = model.get_image_features(pixel_values=pixels).pooler_output
    assert torch.allclose(tokens, vectors[f"{case}.vit_embeds"], atol=1e-4)


def test_everything_needed_lies_there(converted, state):
    processor = load_processor(converted)
    assert processor.image_token_id == ABOUT["image_context_token_id"]
    assert list(processor.image_processor.image_mean) == [0.485, 0.456, 0.406], "InternVL's, not the library's default"
    assert processor.image_seq_length == 16 and processor.image_processor.size["height"] == 56
    model = load_model(converted)
    assert model.config.image_token_id == 413 and model.config.text_config.rope_parameters["rope_theta"] == 1e6
    projector, slowfast = MotionProjector.from_pretrained(converted), SlowFast.from_pretrained(converted)
    assert (projector.features, projector.width, slowfast.dim) == (288, 64, 288)
    assert torch.equal(projector[1].weight, state["motion_mlp.1.weight"].float())


def without_motion(state: dict) -> dict:
    return {name: value for name, value in state.items() if not name.startswith(("motion_mlp", "slowfast_model"))}


def test_what_is_missing_or_foreign_is_named(state, tmp_path, capsys):
    plain = without_motion(state)
    lacking = {n: v for n, v in plain.items() if n != "vision_model.encoder.layers.1.attn.qkv.bias"}
    odd = plain | {"mlp1.3.bias": torch.zeros(63)}
    for number, (kind, held, said) in enumerate((
        ("internvl", lacking, "lacks vision_model.encoder.layers.1.attn.qkv.bias"),
        ("internvl", plain | {"language_model.model.layers.2.mlp.up_proj.weight": torch.zeros(1)},
         "Nothing takes language_model.model.layers.2.mlp.up_proj.weight"),
        ("internvl", state, "convert it as vqathinker"),
        ("internvl", odd, "mlp1.3.bias of"),
        ("vqathinker", plain, "lacks its motion weights (motion_mlp.*, slowfast_model.*)"),
        ("vqathinker", {n: v for n, v in state.items() if n != "motion_mlp.1.bias"}, "motion_mlp.1.bias"),
    )):  # fmt: skip
        source = release(tmp_path / f"source{number}", held)
        assert run(kind, source, tmp_path / f"out{number}") == 1
        message = " ".join(capsys.readouterr().err.split())
        assert said in message and "Traceback" not in message, message
        assert not (tmp_path / f"out{number}").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [("gone", "has no tokenizer"), ("foreign", "its code is not run"), ("other", "has no <IMG_CONTEXT>")],
)
def test_no_judge_without_its_tokenizer(state, tmp_path, monkeypatch, capsys, change, said):
    """Nothing is written: its id of what stands for images would be a guess."""
    monkeypatch.setattr(convert, "_write_weights", lambda *_: pytest.fail("weights were written"))
    source = release(tmp_path / "source", without_motion(state))
    if change == "other":
        words = (source / "tokenizer.json").read_text()
        (source / "tokenizer.json").write_text(words.replace("<IMG_CONTEXT>", "<OTHER>"))
    else:
        (source / "tokenizer.json").unlink()
    if change == "foreign":
        (source / "tokenizer_config.json").write_text(json.dumps(FOREIGN))
    assert run("internvl", source, tmp_path / "out") == 1
    message = " ".join(capsys.readouterr().err.split())
    assert said in message and "convert again" in message and "Traceback" not in message, message
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_foreign_code_gives_way_to_the_words_beside_it(state, tmp_path):
    source = release(tmp_path / "source", without_motion(state))
    (source / "tokenizer_config.json").write_text(json.dumps(FOREIGN))
    assert run("internvl", source, tmp_path / "out") == 0
    assert load_processor(tmp_path / "out").image_token_id == ABOUT["image_context_token_id"]
    assert load_model(tmp_path / "out").config.image_token_id == ABOUT["image_context_token_id"]


def test_a_motion_encoder_keeps_its_window(converted, state, tmp_path):
    source = release(tmp_path / "source", without_motion(state))
    assert run("internvl", source, tmp_path / "plain") == 0
    SlowFast.from_pretrained(converted, window=3).save_pretrained(tmp_path / "slowfast")
    for more, window in (((), 3), (("--window", 1), 1)):
        out = tmp_path / f"moving{window}"
        assert run("motion", tmp_path / "plain", tmp_path / "slowfast", out, *more) == 0
        assert json.loads((out / "config.json").read_text())["motion_window"] == window
        assert load_model(out).slowfast_model.window == window


def test_internvl_alone_and_files_in_parts(state, tmp_path, monkeypatch, vectors):
    """No more than one part is in memory; nothing of the released code is looked at."""
    monkeypatch.setattr(convert, "SHARD_BYTES", 20_000)
    written: list[int] = []
    save = convert.save_file
    monkeypatch.setattr(
        convert, "save_file",
        lambda tensors, *a, **k: (written.append(sum(t.nbytes for t in tensors.values())), save(tensors, *a, **k)),
    )  # fmt: skip
    plain = {name: value.bfloat16() for name, value in without_motion(state).items()}
    source = release(tmp_path / "source", plain)
    (source / "modeling_internvl_chat.py").write_text("raise RuntimeError('run')")
    assert run("internvl", source, tmp_path / "out") == 0
    largest = max(value.nbytes for value in plain.values())
    assert len(written) > 10 and max(written) <= max(20_000, largest)
    model = load_model(tmp_path / "out")
    qkv = plain["vision_model.encoder.layers.0.attn.qkv.weight"]
    layer = model.model.vision_tower.encoder.layer[0].attention
    assert torch.equal(torch.cat([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]), qkv.float())


def test_internlm2s_rows_find_their_heads(tmp_path):
    """``wqkv`` holds, for each key head, its queries, the key and the value."""
    kept = ("vision_model", "mlp1")
    state = {name: value for name, value in released_state().items() if name.startswith(kept)}
    names = {"attention_norm.weight": (64,), "ffn_norm.weight": (64,), "attention.wo.weight": (64, 64),
             "feed_forward.w1.weight": (128, 64), "feed_forward.w3.weight": (128, 64),
             "feed_forward.w2.weight": (64, 128), "attention.wqkv.weight": (128, 64)}  # fmt: skip
    torch.manual_seed(0)
    for name, shape in names.items():
        state[f"language_model.model.layers.0.{name}"] = torch.randn(shape)
    state |= {"language_model.model.tok_embeddings.weight": torch.randn(420, 64),
              "language_model.model.norm.weight": torch.randn(64),
              "language_model.output.weight": torch.randn(420, 64)}  # fmt: skip
    language = ABOUT["config"]["llm_config"] | {
        "model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "num_hidden_layers": 1, "bias": False,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    }  # fmt: skip
    source = release(tmp_path / "source", state, llm_config=language)
    assert run("internvl", source, tmp_path / "out") == 0
    model = load_model(tmp_path / "out")
    groups = state["language_model.model.layers.0.attention.wqkv.weight"].view(2, 4, 16, 64)
    attention = model.model.language_model.layers[0].self_attn
    assert torch.equal(attention.q_proj.weight, groups[:, :2].reshape(64, 64))
    assert torch.equal(attention.k_proj.weight, groups[:, 2].reshape(32, 64))
    assert torch.equal(attention.v_proj.weight, groups[:, 3].reshape(32, 64))
    gate = state["language_model.model.layers.0.feed_forward.w1.weight"]
    assert torch.equal(model.model.language_model.layers[0].mlp.gate_proj.weight, gate)
