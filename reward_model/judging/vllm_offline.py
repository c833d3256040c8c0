"""A judge whose model runs in this process under vLLM, which batches continuously and shares prefixes by itself.

vLLM is not among our dependencies; install it beside (``pip install vllm``).
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from reward_model.judging.base import Answer, Decoding, Prompts, Question, VideoJudge, label_probability, wording_id
from reward_model.judging.loading import local_directory, weights_id
from reward_model.presets import PRESETS, kept_prompts
from reward_model.prompts import JudgePrompt
from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.video import Clip, read_video, sample_clip

QUESTIONS_AT_ONCE = 512
LIKELIEST = 20
"""Tokens whose probability is asked for at each step, as many as vLLM gives without being told otherwise."""


class VllmJudge(VideoJudge):
    """``engine`` are arguments of ``vllm.LLM``: tensor_parallel_size, max_model_len, gpu_memory_utilization, …"""

    def __init__(
        self,
        path: str,
        *,
        preset: str = "general",
        decoding: Decoding | None = None,
        dtype: str = "bfloat16",
        engine: Mapping[str, Any] | None = None,
    ):
        try:
            from vllm import LLM
        except ImportError as error:
            raise InputError("vLLM is not installed; install it (pip install vllm) or judge without it.") from error
        path = local_directory(path, PRESETS[preset].subfolder)
        if (Path(path) / "adapter_config.json").exists():
            raise InputError(f"Judge {path} is an adapter; merge it for vLLM (a run does with --merge).")
        chosen, decoding = kept_prompts(path, PRESETS[preset]), decoding or Decoding()
        wording = wording_id(chosen.compare) if chosen.compare else ""
        judge_id = stable_id("vllm", weights_id(path), wording, dtype, decoding)
        super().__init__(Prompts(chosen.compare, chosen.score, chosen.describe), judge_id=judge_id, decoding=decoding)
        self.processor = AutoProcessor.from_pretrained(path)
        self.model = LLM(
            model=path, dtype=dtype, enable_prefix_caching=True, limit_mm_per_prompt={"video": 2}, **(engine or {})
        )

    def _ask(self, questions: Iterator[Question]) -> Iterator[Answer]:
        from vllm import SamplingParams

        while window := list(itertools.islice(questions, QUESTIONS_AT_ONCE)):
            answers: dict[int, Answer] = {}
            requests: dict[int, dict] = {}
            for index, question in enumerate(window):
                try:
                    requests[index] = self._request(question)
                except InputError as error:
                    answers[index] = Answer(error=str(error))
            prompt = window[0].prompt
            labels = prompt.labels if isinstance(prompt, JudgePrompt) else None
            sampled = self.decoding.samples > 1 and prompt is not self.prompts.describe
            settings = [
                SamplingParams(
                    max_tokens=prompt.max_new_tokens,
                    temperature=self.decoding.temperature if sampled else 0.0,
                    seed=window[index].sample if sampled else None,
                    logprobs=LIKELIEST if labels else None,
                )
                for index in requests
            ]
            outputs = self.model.generate(list(requests.values()), settings, use_tqdm=False)
            answers |= {i: _answer(output.outputs[0], labels) for i, output in zip(requests, outputs, strict=True)}
            yield from (answers[index] for index in range(len(window)))

    def _request(self, question: Question) -> dict:
        text = self.processor.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True)
        paths = [part["video"] for m in question.messages for part in m["content"] if part["type"] == "video"]
        clips = [self._clip(path, question) for path in paths]
        videos = [(clip.frames, _metadata(clip)) for clip in clips]
        request = {"prompt": text, "multi_modal_data": {"video": videos}}
        if question.prompt.max_pixels is not None:
            size = {
                "shortest_edge": min(56 * 56, question.prompt.max_pixels),
                "longest_edge": question.prompt.max_pixels,
            }
            request["mm_processor_kwargs"] = {"size": size}
        return request

    def _clip(self, path: str, question: Question) -> Clip:
        sampling = question.prompt.sampling
        return sample_clip(question.clips[path], sampling) if path in question.clips else read_video(path, sampling)


def _metadata(clip: Clip) -> dict:
    count = len(clip.frames)
    spacing = float(clip.seconds[-1] - clip.seconds[0] + 1 / clip.fps) / count
    return {
        "fps": 1 / spacing, "total_num_frames": count, "duration": spacing * count,
        "frames_indices": list(range(count)), "video_backend": "pyav", "do_sample_frames": False,
    }  # fmt: skip


def _answer(output: Any, labels: tuple[str, str] | None) -> Answer:
    if labels is None:
        return Answer(output.text)
    steps = [{each.decoded_token: each.logprob for each in step.values()} for step in output.logprobs]
    tokens = [step[token].decoded_token for step, token in zip(output.logprobs, output.token_ids, strict=True)]
    return Answer(output.text, label_probability(tokens, steps, labels))
