"""SlowFast's weights and the motion projector's, wherever a checkpoint keeps them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from reward_model.motion.network import SlowFastNetwork
from videoduet.errors import InputError
from videoduet.loading import check_files, loading, refuse_not_finite, some
from videoduet.store import read_json

_ENCODER = re.compile(r"(?:^|\.)(\d+)\.(multipathway_(?:blocks|fusion)\..+)$")
"""What both ``blocks.N`` of pytorchvideo and ``slowfast_model.feature_extraction.N`` of the judges end with. Vision
towers have blocks too."""
_PROJECTOR = re.compile(r"(?:^|\.)motion_mlp\.(\d+\.\w+)$")
_PICKLES = ("*.pyth", "*.pth", "*.pt", "*.bin", "*.ckpt")
_NESTED = ("model_state", "state_dict", "model", "module")
"""What pytorchvideo, Lightning, DeepSpeed and others call the weights in their checkpoints."""
_MEND = "is it cut short, or no checkpoint?"


def network_from(path: str | Path) -> SlowFastNetwork:
    """The network with the weights at ``path``, as wide and deep as they are, in float32.

    Raises InputError where there are none, some are missing or of another shape, or one is not finite.
    """
    state = {f"blocks.{match[1]}.{match[2]}": value for match, value in _found(path, _ENCODER)}
    if not state:
        raise InputError(
            f"{path} holds no motion weights (blocks.N or slowfast_model.feature_extraction.N); give a SlowFast "
            "checkpoint, such as SLOWFAST_8x8_R50.pyth, or the judge's with its motion encoder."
        )
    with loading(f"The motion weights in {path} cannot be loaded", "give those of a SlowFast network, whole."):
        with torch.device("meta"):
            network = _network_like(state)
        expected = network.state_dict()
        # Older files do not count the batches of training, which nothing reads.
        counted = {name for name in expected if name.endswith("num_batches_tracked")}
        if missing := expected.keys() - counted - state.keys():
            raise ValueError(f"they lack {some(missing)}, of {len(expected)} tensors")
        if unknown := state.keys() - expected.keys():
            raise ValueError(f"nothing takes {some(unknown)}, of {len(state)} tensors")
        if odd := {name for name, value in state.items() if value.shape != expected[name].shape}:
            raise ValueError(f"{some(odd)} of another shape")
        refuse_not_finite(state.items(), "the motion weights")
        whole = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        zero = torch.zeros((), dtype=torch.int64)
        network.load_state_dict({**dict.fromkeys(counted, zero), **whole}, assign=True)
    return network


def window_of(path: str | Path, default: int) -> int:
    """The side of SlowFast's pooling that stands in the ``config.json`` of a directory (of a file's, too): a judge's
    ``motion_window``, or the ``window`` of SlowFast alone; ``default`` where neither does.
    """
    file = (Path(path) if Path(path).is_dir() else Path(path).parent) / "config.json"
    config = read_json(file) if file.exists() else {}
    # Vision towers have windows too.
    own = config.get("window") if config.get("model_type") == "slowfast" else None
    told = config.get("motion_window", own)
    return default if told is None else int(told)


def projector_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of the motion projector at ``path``, without their prefix. Raises InputError where there are none."""
    state = {match[1]: value for match, value in _found(path, _PROJECTOR)}
    if not state:
        raise InputError(f"{path} holds no motion projector (motion_mlp.*); give a judge's checkpoint that has one.")
    return state


def _network_like(state: Mapping[str, Tensor]) -> SlowFastNetwork:
    """A network of the widths and depths of ``state``."""
    stems = [state[f"blocks.0.multipathway_blocks.{pathway}.conv.weight"].shape[0] for pathway in (0, 1)]
    joined = state["blocks.0.multipathway_fusion.conv_fast_to_slow.weight"].shape
    depths: list[int] = []
    stage = re.compile(r"blocks\.(\d+)\.multipathway_blocks\.0\.res_blocks\.(\d+)\.")
    for match in filter(None, map(stage.match, state)):
        number, block = int(match[1]), int(match[2])
        depths += [0] * (number - len(depths))
        depths[number - 1] = max(depths[number - 1], block + 1)
    return SlowFastNetwork(stems, joined[0] // joined[1], depths)


def _found(path: str | Path, wanted: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Tensor]]:
    """The tensors whose names end as ``wanted`` says; of safetensors nothing else is read."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"Checkpoint {path} does not exist; check the path.")
    check_files(path)
    seen: dict[tuple[str | Any, ...], str] = {}
    for file in _files(path):
        for name, value in _tensors(file, wanted):
            match = wanted.search(name)
            assert match is not None
            if (twin := seen.setdefault(match.groups(), name)) != name:
                raise InputError(f"{path} holds the motion weights twice, as {twin} and {name}; take one of them out.")
            yield match, value


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for pattern in ("*.safetensors", *_PICKLES):
        if files := sorted(path.glob(pattern)):
            return files
    raise InputError(f"Checkpoint {path} holds no weights (*.safetensors, {', '.join(_PICKLES)}); check the path.")


def _tensors(file: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, Tensor]]:
    with loading(f"Checkpoint {file} cannot be read", _MEND):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                for name in filter(wanted.search, opened.keys()):
                    yield name, opened.get_tensor(name)
            return
        content = _unpickled(file)
    for name in _NESTED:
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    yield from ((name, value) for name, value in content.items() if isinstance(value, Tensor) and wanted.search(name))


def _unpickled(file: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # What PyTorch says here is to run the code of whoever made the file.
        raise InputError(
            f"Checkpoint {file} holds more than tensors, or is cut short; save its state dict alone if it is trusted."
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"Checkpoint {file} is no state dict; {_MEND}")
    return content
