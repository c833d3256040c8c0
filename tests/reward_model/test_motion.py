"""Motion features against vectors from the authors' own code (tests/golden/slowfast_small, vqathinker_small)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reward_model.motion import KeptFeatures, MotionProjector, SlowFast, SlowFastNetwork
from reward_model.motion.pooling import repeats, slow_indices, window_weights
from reward_model.released_frames import normalised, released_indices, squared
from videoduet.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "slowfast_small.json").read_text())["cases"]
KEYS = json.loads((GOLDEN / "slowfast_r50_keys.json").read_text())
FRAMES = json.loads((GOLDEN / "video_preprocess.json").read_text())


def arrays(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a golden file of numpy's."""
    with np.load(GOLDEN / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    return arrays("slowfast_small_state_dict.npz")


@pytest.fixture(scope="module")
def checkpoint(released, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slowfast") / "SLOWFAST_8x8_R50.pyth"
    torch.save({"model_state": released}, path)
    return path


@pytest.fixture(scope="module")
def slowfast(checkpoint) -> SlowFast:
    return SlowFast.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "slowfast_small_io.safetensors")


@pytest.fixture(scope="module")
def clip(vectors) -> torch.Tensor:
    """(2, 12, 3, 256, 288), normalised."""
    return normalised(vectors["clip_lowres_uint8"].repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("name", CASES)
def test_features_are_the_releases(name, slowfast, vectors, clip):
    frames = CASES[name]["frames"]
    assert slow_indices(frames) == vectors[f"{name}.slow_index"].tolist() == CASES[name]["slow_index"]
    assert repeats(frames) == CASES[name]["repeat_interleave"]
    features = slowfast.features(clip[:, :frames])
    torch.testing.assert_close(features, vectors[f"{name}.feature"], atol=1e-4, rtol=0)
    assert (features - vectors[f"{name}.global_mean_feature"]).abs().max() > 0.5
    # One video is one vector, and the same one.
    torch.testing.assert_close(slowfast.features(clip[0, :frames]), features[0], atol=1e-5, rtol=0)


def test_maps_are_the_releases(checkpoint, slowfast, vectors, clip):
    frames = clip[:1, :6].movedim(2, 1)
    slow, fast = frames[:, :, [0, 5]], frames
    for block in slowfast.blocks:
        slow, fast = block(slow, fast)
    torch.testing.assert_close(slow, vectors["vqathinker_train_T6.map_slow"], atol=1e-3, rtol=0)
    torch.testing.assert_close(fast, vectors["vqathinker_train_T6.map_fast"], atol=1e-3, rtol=0)


def test_the_full_size_has_the_released_keys():
    with torch.device("meta"):
        network = SlowFastNetwork()
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert ours == {name: shape for name, shape, _ in KEYS["keys"] if not name.startswith("blocks.6.")}
    assert network.dim == KEYS["feature"]["dim"]


@pytest.mark.parametrize(("layout", "prefix"), [
    ("judge.safetensors", "slowfast_model.feature_extraction."), ("weights.bin", "blocks."),
    ("judge.pt", "module.slowfast_model.feature_extraction."), ("shards", "slowfast_model.feature_extraction."),
])  # fmt: skip
def test_any_layout_of_a_checkpoint_is_read(layout, prefix, released, slowfast, tmp_path):
    path, named = tmp_path / layout, {key.replace("blocks.", prefix, 1): value for key, value in released.items()}
    # A vision tower's blocks are none of its.
    named["visual.blocks.0.attn.qkv.weight"] = torch.zeros(2)
    if layout == "shards":
        path.mkdir()
        names = sorted(named)
        for number, part in enumerate((names[:300], names[300:])):
            save_file({name: named[name] for name in part}, path / f"model-0000{number}-of-00002.safetensors")
    elif path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save(named, path)
    read = SlowFast.from_pretrained(path)
    assert_same(read.state_dict(), slowfast.state_dict())


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nothing_moves_it(slowfast, clip):
    before = {name: value.clone() for name, value in slowfast.state_dict().items()}
    frames = clip[0, :6].requires_grad_()
    features = slowfast.features(frames)
    judge = torch.nn.ModuleDict({"motion": slowfast, "rest": torch.nn.Linear(2, 2)}).train()
    judge.requires_grad_(True)
    for module in slowfast.modules():
        module.training = True
    again = slowfast.features(frames)
    assert torch.equal(again, features) and not again.requires_grad
    assert_same(slowfast.state_dict(), before)
    assert not list(slowfast.parameters())
    judge.train()
    assert not any(module.training for module in slowfast.modules())


def test_a_network_that_was_trained_can_be_frozen_and_kept(tmp_path):
    network = SlowFastNetwork((2, 1), depths=(1, 1, 1, 1)).train()
    frames = torch.rand(2, 3, 8, 32, 32)
    slow, fast = network(frames[:, :, [0, 7]], frames)
    (slow.mean() + fast.mean()).backward()
    assert all(value.grad is not None for value in network.parameters())
    frozen = SlowFast(network, window=1)
    frozen.save_pretrained(tmp_path)
    read = SlowFast.from_pretrained(tmp_path)
    assert read.window == 1 and read.dim == network.dim == 2 * 32 + 32
    shown = frames[0].movedim(0, 1)
    assert torch.equal(read.features(shown), frozen.features(shown))
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("frames", [4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 33])
def test_any_number_of_frames_has_features(frames):
    slowfast = SlowFast(SlowFastNetwork((2, 1), depths=(1, 1, 1, 1)), window=1)
    video = torch.randn(frames, 3, 32, 32)
    features = slowfast.features(video)
    assert features.shape == (96,) and bool(features.isfinite().all())
    # What the releases do: repeat, then average windows, then their means.
    repeated = repeats(frames)
    for length, span in ((len(slow_indices(frames)), 8), (frames, 32)):
        values = torch.rand(length)
        windows = torch.nn.functional.avg_pool1d(values.repeat_interleave(repeated)[None], span, 1)
        weights = torch.tensor(window_weights(length, span, repeated))
        assert float(weights @ values) == pytest.approx(float(windows.mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("frames", "repeated"), [(8, 4), (12, 4), (16, 4), (6, 6), (7, 6), (10, 6), (5, 7), (4, 8), (13, 6), (15, 4)]
)
def test_repeats_are_the_releases_where_they_run(frames, repeated):
    assert repeats(frames) == repeated
    assert repeated * len(slow_indices(frames)) >= 8 and repeated * frames >= 32


@pytest.mark.parametrize(("shape", "said"), [
    ((3, 3, 256, 256), "Motion cannot be seen in 3 frames"), ((8, 3, 192, 256), "256x192 are too small"),
    ((8, 256, 256), r"Frames of shape \(8, 256, 256\)"),
])  # fmt: skip
def test_what_shows_no_motion_is_told(shape, said, slowfast):
    with pytest.raises(InputError, match=said):
        slowfast.features(torch.zeros(shape))


def test_the_smallest_frames_that_the_pooling_takes(slowfast):
    assert slowfast.features(np.zeros((8, 193, 193, 3), np.uint8)).shape == (288,)


@pytest.mark.parametrize(("change", "said"), [
    ("none", "holds no motion weights"), ("missing", "they lack blocks.4"), ("foreign", "nothing takes blocks.9"),
    ("shape", "another shape"), ("nan", "NaN or infinity"), ("twice", "twice"), ("list", "no state dict"),
])  # fmt: skip
def test_a_checkpoint_that_is_not_whole_is_told(change, said, released, tmp_path):
    state, path = dict(released), tmp_path / "judge.pt"
    name = "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.conv_c.weight"
    if change == "none":
        state = {"visual.blocks.0.attn.qkv.weight": torch.zeros(2)}
    elif change == "missing":
        del state[name]
    elif change == "foreign":
        state["blocks.9.multipathway_fusion.norm.weight"] = torch.zeros(2)
    elif change == "shape":
        state[name] = torch.zeros(3)
    elif change == "nan":
        state[name] = state[name] * float("nan")
    elif change == "twice":
        state[f"ema.{name}"] = state[name]
    torch.save([state] if change == "list" else state, path)
    with pytest.raises(InputError, match=said):
        SlowFast.from_pretrained(path)


def test_what_is_no_checkpoint_is_told(tmp_path):
    for name, content in (("broken.pt", b"no weights"), ("broken.safetensors", b"12345678")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            SlowFast.from_pretrained(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        SlowFast.from_pretrained(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="holds no weights"):
        SlowFast.from_pretrained((tmp_path / "empty").mkdir() or tmp_path / "empty")


def test_a_pickle_runs_nothing(tmp_path):
    torch.save({"model_state": {}, "cfg": Path("x")}, tmp_path / "judge.pyth")
    with pytest.raises(InputError, match="more than tensors"):
        SlowFast.from_pretrained(tmp_path / "judge.pyth")


@pytest.mark.parametrize(("case", "video"), [("chat", "frames_test_uint8"), ("train", "frames_train_uint8")])
def test_the_motion_token_of_vqathinker(case, video, tmp_path):
    save_file(arrays("vqathinker_small_state_dict.npz"), tmp_path / "model.safetensors")
    vectors = load_file(GOLDEN / "vqathinker_small_io.safetensors")
    expected = vectors[f"{case}.motion_feature"]
    slowfast = SlowFast.from_pretrained(tmp_path, window=2)
    features = slowfast.features(vectors[video][: len(expected)])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)
    projector = MotionProjector.from_pretrained(tmp_path)
    assert (projector.features, projector.width) == (288, 64)
    torch.testing.assert_close(projector(features), vectors[f"{case}.motion_embeds"], atol=1e-4, rtol=0)


def test_a_projector_that_is_not_there_is_told(checkpoint):
    with pytest.raises(InputError, match="holds no motion projector"):
        MotionProjector.from_pretrained(checkpoint)


def test_a_fresh_projector_tells_videos_apart():
    torch.manual_seed(0)
    tokens = MotionProjector(288, 64)(torch.rand(2, 288)).detach()
    assert float((tokens[0] - tokens[1]).norm() / tokens.norm(dim=1).mean()) > 0.3


def test_features_are_computed_once_a_video():
    slowfast, shown = SlowFast(SlowFastNetwork((2, 1), depths=(1, 1, 1, 1)), window=1), []
    kept = KeptFeatures[str](slowfast, keep=2)

    def frames(name: str):
        shown.append(name)
        return torch.full((8, 3, 32, 32), float(len(name)))

    for name in ("a", "bb", "a", "ccc", "a", "bb"):
        assert torch.equal(kept.of(name, lambda: frames(name)), slowfast.features(frames(name)))
        shown.pop()
    assert shown == ["a", "bb", "ccc", "bb"]


@pytest.mark.parametrize(
    "row", FRAMES["frame_indices"], ids=lambda row: f"{row['num_frames']}_of_{row['total_frames']}"
)
def test_frames_are_those_that_the_releases_show(row):
    assert released_indices(row["total_frames"], row["num_frames"]) == row["indices"]


def test_no_frames_are_told():
    with pytest.raises(InputError, match="0 frames"):
        released_indices(0, 6)


def test_pixels_are_those_that_the_releases_show():
    vectors, size = load_file(GOLDEN / "video_preprocess.safetensors"), FRAMES["frame_size"]
    for number in range(len(FRAMES["image_sizes"])):
        values = normalised(squared(vectors[f"image{number}_uint8"][None].numpy(), size))[0]
        torch.testing.assert_close(values, vectors[f"image{number}_pixel_values"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "window"),
    [({"model_type": "internvl", "motion_window": 2}, 2), ({"model_type": "slowfast"}, 7),
     ({"model_type": "slowfast", "window": 3}, 3), ({"model_type": "internvl", "window": 3}, 7)],
)  # fmt: skip
def test_a_judges_window_is_read(config, window, released, tmp_path):
    save_file(released, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert SlowFast.from_pretrained(tmp_path).window == window
