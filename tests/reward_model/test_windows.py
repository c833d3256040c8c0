"""Windows of like length are attended to together, and a video's vision tokens stay what they are."""

import pytest
import torch
from small_qwen3 import write_qwen3
from torch.nn import functional

from reward_model import Judge
from reward_model.encoding import VideoInputs, few_patches, video_tensors
from reward_model.judging.windows import EVEN, WindowsTogether, attend_windows, wider


@torch.no_grad()
def test_each_window_attends_to_itself():
    torch.manual_seed(0)
    lengths = [4, 4, 2, 4, 1, 1]
    query, key, value = torch.randn(3, sum(lengths), 2, 8)
    ends = torch.tensor(lengths).cumsum(0).tolist()
    alone = [
        functional.scaled_dot_product_attention(*(each.transpose(0, 1) for each in window)).transpose(0, 1)
        for window in zip(*(each.split(lengths) for each in (query, key, value)), strict=True)
    ]
    torch.testing.assert_close(attend_windows(query, key, value, ends, 8**-0.5), torch.cat(alone))


@pytest.mark.parametrize("family", ["qwen2_5", "qwen3"])
@torch.no_grad()
def test_vision_tokens_stay_and_the_tower_is_left_as_it_was(small, tmp_path, family):
    if family == "qwen3":
        write_qwen3(tmp_path)
    judge = Judge.from_pretrained(small.path if family == "qwen2_5" else tmp_path, device="cpu")
    videos = [judge.encoder.video(small.videos[name].path) for name in ("red", "three_frames", "blue")]
    tensors = video_tensors(videos)

    def tokens() -> list[torch.Tensor]:
        output = judge.model.get_video_features(tensors["pixel_values_videos"], tensors["video_grid_thw"])
        deep = getattr(output, "deepstack_features", None) or []
        return [torch.cat(list(each)) for each in (output.pooler_output, *deep)]

    plain, visual = tokens(), judge.model.model.visual
    with WindowsTogether(visual):
        torch.testing.assert_close(tokens(), plain)
        assert "forward" in visual.blocks[0].attn.__dict__
    assert "forward" not in visual.blocks[0].attn.__dict__


@torch.no_grad()
def test_videos_are_seen_a_few_at_a_time():
    counts = zip("abcd", (3, 2, 9, 1), strict=True)
    videos = {name: VideoInputs(torch.zeros(count, 4), torch.ones(3), 1.0) for name, count in counts}
    assert [list(part) for part in few_patches(videos, 5)] == [["a", "b"], ["c"], ["d"]]
    assert list(few_patches({}, 5)) == []


def test_an_uneven_layer_computes_what_it_did():
    class Gated(torch.nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.gate_proj, self.up_proj = torch.nn.Linear(8, width), torch.nn.Linear(8, width)
            self.down_proj, self.act_fn = torch.nn.Linear(width, 8), torch.nn.SiLU()

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))

    torch.manual_seed(0)
    uneven, states = Gated(EVEN + 3), torch.randn(5, 8)
    torch.testing.assert_close(wider(uneven)(states), uneven(states))
    assert wider(Gated(EVEN)) is None
