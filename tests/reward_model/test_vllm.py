"""What is handed to vLLM and read from it. vLLM needs a GPU, so a stand-in with its documented interface answers here:
this tests our side alone.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from small_judge import SMALL_PROMPT

from reward_model.judging.config import Decoding
from reward_model.judging.vllm_offline import VllmJudge
from videoduet.errors import InputError

ANSWER = ["<think>", "1", "</think>", "<answer>", "2", "</answer>", "<|im_end|>"]


class StandIn:
    """Always says that the second is better, with a probability of 0.75."""

    def __init__(self, **arguments):
        self.arguments, self.requests, self.settings = arguments, [], []

    def generate(self, requests, settings, use_tqdm):
        assert len(requests) == len(settings)
        self.requests += requests
        self.settings += settings
        return [SimpleNamespace(outputs=[self.output()]) for _ in requests]

    def output(self):
        def top(token: str, p: float) -> SimpleNamespace:
            return SimpleNamespace(decoded_token=token, logprob=np.log(p))

        steps = [{index: top(token, 0.9)} for index, token in enumerate(ANSWER)]
        steps[4] = {4: top("2", 0.6), 99: top("1", 0.2)}
        return SimpleNamespace(text="".join(ANSWER[:-1]), token_ids=list(range(len(ANSWER))), logprobs=steps)


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = StandIn, lambda **settings: SimpleNamespace(**settings)
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_questions_and_answers(vllm, small, not_a_video):
    judge = VllmJudge(str(small.path), dtype="float32", engine={"max_model_len": 4096})
    assert judge.prompts.compare == SMALL_PROMPT, "what lies beside the weights goes before the preset"
    assert judge.model.arguments["max_model_len"] == 4096 and judge.model.arguments["limit_mm_per_prompt"] == {
        "video": 2
    }
    red, green = (small.videos[name].path for name in ("red", "green"))
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    failures = []
    comparisons = list(judge.compare([(red, green, "x"), (red, not_a_video), (red, frames)], failures=failures))
    assert [c.status for c in comparisons] == ["disagreement"] * 2 and len(failures) == 1
    assert comparisons[0].forward.p == pytest.approx(0.25) and comparisons[0].forward.verdict == "second"
    first, second = judge.model.requests[0]["multi_modal_data"]["video"]
    assert first[0].shape == (4, 32, 32, 3) and first[0].dtype == np.uint8
    assert (
        first[1]["fps"] == pytest.approx(4) and first[1]["total_num_frames"] == 4 and not first[1]["do_sample_frames"]
    )
    assert judge.model.requests[0]["prompt"].count("<|video_pad|>") == 2
    assert np.array_equal(judge.model.requests[1]["multi_modal_data"]["video"][0][0], second[0])
    assert all(each.temperature == 0 and each.max_tokens == 12 for each in judge.model.settings)


def test_samples_and_pixel_budgets(vllm, small):
    judge = VllmJudge(str(small.path), preset="vqinsight-aigcvideo", decoding=Decoding(samples=2))
    list(judge.score([small.videos["red"].path]))
    assert [each.seed for each in judge.model.settings] == [0, 1] and judge.model.settings[0].temperature == 0.7
    assert judge.model.requests[0]["mm_processor_kwargs"]["size"]["longest_edge"] == 128 * 28 * 28


def test_adapters_are_to_be_merged_first(vllm, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="merge it"):
        VllmJudge(str(tmp_path))
