"""A judge whose model runs in this process under vLLM, which batches continuously and shares prefixes by itself.

vLLM is not among our dependencies; install it beside (``pip install vllm``).
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reward_model.encoding import VIDEO_TOKEN, ShowingEncoder, encoder_class
from reward_model.judging.base import Answer, VideoJudge, label_probability
from reward_model.judging.config import Decoding
from reward_model.judging.loading import load_processor, local_directory, positions_per_second, weights_id
from reward_model.presets import kept_prompts, preset_named
from reward_model.prompts import JudgePrompt
from reward_model.questions import Question, video_paths
from reward_model.wordings import Shown
from videoduet.errors import InputError, in_words
from videoduet.records import stable_id
from videoduet.video import Clip, read_video, sample_clip

QUESTIONS_AT_ONCE = 512
LIKELIEST = 20
"""Tokens whose probability is asked for at each step, as many as vLLM gives without being told otherwise."""


class VllmJudge(VideoJudge):
    """A judge whose model vLLM runs.

    ``engine`` are arguments of ``vllm.LLM``: tensor_parallel_size, max_model_len, gpu_memory_utilization, …
    """

    def __init__(
        self,
        path: str,
        *,
        preset: str | None = None,
        decoding: Decoding | None = None,
        prompt: JudgePrompt | None = None,
        shown: Shown | None = None,
        dtype: str = "bfloat16",
        engine: Mapping[str, Any] | None = None,
    ):
        try:
            from vllm import LLM
        except ImportError as error:
            raise InputError("vLLM is not installed; install it (pip install vllm) or judge without it.") from error
        chosen, decoding = preset_named(preset), decoding or Decoding()
        path = local_directory(path, chosen.subfolder)
        if (Path(path) / "adapter_config.json").exists():
            raise InputError(f"Judge {path} is an adapter; merge it for vLLM (a run does with --merge).")
        prompts = kept_prompts(path, chosen.prompts)
        if prompt is not None:
            prompts = replace(prompts, compare=prompt)
        prompts = (shown or Shown()).in_all(prompts)
        if any(asked is not None and asked.layout for asked in (prompts.compare, prompts.score, prompts.describe)):
            raise InputError(
                f"Preset {preset} shows frames as images, and vLLM is given videos here; take --backend server, with a "
                "vLLM that serves the judge."
            )
        judge_id = stable_id("vllm", weights_id(path), prompts.compare_id, dtype, decoding)
        super().__init__(prompts, judge_id=judge_id, decoding=decoding)
        self.processor = load_processor(path)
        if encoder_class(self.processor).vision_token != VIDEO_TOKEN:
            raise InputError(f"Judge {path} is no Qwen, and is not shown videos under vLLM; judge without it.")
        self._time = ShowingEncoder(self.processor, None, tokens_per_second=positions_per_second(path))
        self.model = LLM(
            model=path, dtype=dtype, enable_prefix_caching=True, limit_mm_per_prompt={"video": 2}, **(engine or {})
        )

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The answers, in the order of the questions, which vLLM batches by itself."""
        from vllm import SamplingParams

        questions = iter(questions)
        while window := list(itertools.islice(questions, QUESTIONS_AT_ONCE)):
            answers: dict[int, Answer] = {}
            requests: dict[int, dict] = {}
            for index, question in enumerate(window):
                try:
                    requests[index] = self._request(question)
                # Whatever is wrong with one item ends no batch.
                except Exception as error:
                    answers[index] = Answer(error=in_words(error))
            settings = [SamplingParams(**self._drawn(window[index])) for index in requests]
            outputs = self.model.generate(list(requests.values()), settings, use_tqdm=False)
            for index, output in zip(requests, outputs, strict=True):
                answers[index] = _answer(output.outputs[0], window[index].labels)
            yield from (answers[index] for index in range(len(window)))

    def _drawn(self, question: Question) -> dict[str, Any]:
        """How an answer is drawn, as vLLM is told it."""
        sampled = self.decoding.samples > 1 and question.sampled
        return {
            "max_tokens": question.view.max_new_tokens,
            "temperature": self.decoding.temperature if sampled else 0.0,
            "seed": question.sample if sampled else None,
            "logprobs": LIKELIEST if question.labels else None,
        }

    def _request(self, question: Question) -> dict:
        text = self.processor.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True)
        videos = [self._video(path, question) for path in video_paths(question.messages)]
        request = {"prompt": text, "multi_modal_data": {"video": videos}}
        if (most := question.view.max_pixels) is not None:
            size = {"shortest_edge": min(56 * 56, most), "longest_edge": most}
            request["mm_processor_kwargs"] = {"size": size}
        return request

    def _video(self, path: str, question: Question) -> tuple[np.ndarray, dict]:
        """Frames, and when they are shown, as far as the model can tell."""
        sampling = question.view.sampling
        clip = sample_clip(question.clips[path], sampling) if path in question.clips else read_video(path, sampling)
        step = self.processor.video_processor.temporal_patch_size
        return clip.frames, _metadata(clip, self._time.told(path, step * clip.spacing, len(clip.frames)) / step)


def _metadata(clip: Clip, spacing: float) -> dict:
    count = len(clip.frames)
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
