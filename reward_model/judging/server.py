"""A judge behind an OpenAI-compatible server: one's own vLLM server, or a hosted vision-language model."""

import base64
import hashlib
import io
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from ssl import SSLCertVerificationError
from urllib.parse import urlsplit

from PIL import Image

from reward_model.judging.base import Answer, VideoJudge, label_probability
from reward_model.judging.config import Decoding, ServerSettings
from reward_model.presets import preset_named
from reward_model.prompts import JudgePrompt
from reward_model.questions import Question, View
from reward_model.wordings import Shown
from videoduet.errors import in_words
from videoduet.records import stable_id
from videoduet.store import read_json, write_json
from videoduet.video import Clip, read_video, sample_clip, written

WORTH_ANOTHER_TRY = {408, 409, 425, 429}
"""Besides all from 500 on, but these:"""
NOT_DONE_HERE = {501, 505}
BROKEN_OFF = {"error", "abort"}
FINAL = {
    "content_filter", "invalid_api_key", "model_not_found", "context_length_exceeded", "insufficient_quota",
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error",
}  # fmt: skip
"""What an error in a reply calls itself, as its code or its type, that another try would meet again."""
"""What a server calls the end of an answer that it could not finish; others are the model's own."""
LONGEST_WAIT = 60.0
VIDEOS_KEPT = 64
LIKELIEST = 20


class ServerJudge(VideoJudge):
    """A judge whose model runs on a server. Videos are sent as their frames, JPEG, with the time of each.

    What the server does not answer in the end is a failure of that comparison alone (see ``failures``).
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        preset: str | None = None,
        decoding: Decoding | None = None,
        prompt: JudgePrompt | None = None,
        shown: Shown | None = None,
    ):
        prompts, decoding = preset_named(preset).prompts, decoding or Decoding()
        if prompt is not None:
            prompts = replace(prompts, compare=prompt)
        prompts = (shown or Shown()).in_all(prompts)
        judge_id = stable_id("server", settings.model, prompts.compare_id, decoding)
        super().__init__(prompts, judge_id=judge_id, decoding=decoding)
        self.settings = settings
        # A proxy is for the outside world.
        local = urlsplit(settings.url).hostname in ("localhost", "127.0.0.1", "::1")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
        self._shown: OrderedDict[tuple, list[dict]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The answers, in the order of the questions, several of which are under way at once."""
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting: deque[Future[Answer]] = deque()
            try:
                for question in questions:
                    waiting.append(pool.submit(self._answer, question))
                    # Twice as many as are under way, so that one slow answer does not leave the others idle.
                    if len(waiting) >= 2 * self.settings.concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _answer(self, question: Question) -> Answer:
        try:
            body = self._body(question)
        # Whatever is wrong with one item ends no batch.
        except Exception as error:
            return Answer(error=in_words(error))
        labels = question.labels
        key = hashlib.sha256(json.dumps([body, labels, question.sample], sort_keys=True).encode()).hexdigest()
        kept = Path(self.settings.cache) / key[:2] / f"{key}.json" if self.settings.cache is not None else None
        if kept is not None and kept.exists():
            return Answer(**read_json(kept))
        answer = self._request(body, labels)
        if kept is not None and answer.error is None:
            write_json(kept, {"text": answer.text, "p": answer.p})
        return answer

    def _body(self, question: Question) -> dict:
        messages = []
        for message in question.messages:
            parts = []
            for part in message["content"]:
                if part["type"] == "video":
                    parts += self._frames(part["video"], question.clips.get(part["video"]), question.view)
                else:
                    parts.append(part)
            messages.append({"role": message["role"], "content": parts})
        body = {"model": self.settings.model, "messages": messages, "max_tokens": question.view.max_new_tokens}
        sampled = self.decoding.samples > 1 and question.sampled
        body |= {"temperature": self.decoding.temperature if sampled else 0.0}
        body |= {"seed": question.sample} if sampled else {}
        return body | ({"logprobs": True, "top_logprobs": LIKELIEST} if self.settings.logprobs else {})

    def _frames(self, path: str, clip: Clip | None, view: View) -> list[dict]:
        """A video as parts of a message: when its frames are shown, and the frames."""
        key = (path, written(path), view.sampling, view.max_pixels, view.layout)
        with self._lock:
            if key in self._shown:
                self._shown.move_to_end(key)
                return self._shown[key]
        clip = read_video(path, view.sampling) if clip is None else sample_clip(clip, view.sampling)
        times = ", ".join(f"{second - clip.seconds[0]:.2f}" for second in clip.seconds)
        # A judge that learned from images alone was never told their times.
        parts = [] if view.layout == "images" else [{"type": "text", "text": f"(frames at {times} seconds)"}]
        for frame in clip.frames:
            image, buffer = Image.fromarray(frame), io.BytesIO()
            if view.max_pixels is not None and image.width * image.height > view.max_pixels:
                scale = (view.max_pixels / (image.width * image.height)) ** 0.5
                image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
            image.save(buffer, "jpeg", quality=95, subsampling=0)
            data = base64.b64encode(buffer.getvalue()).decode()
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}})
        with self._lock:
            self._shown[key] = parts
            while len(self._shown) > VIDEOS_KEPT:
                self._shown.popitem(last=False)
        return parts

    def _request(self, body: dict, labels: tuple[str, str] | None) -> Answer:
        """Ask until there is an answer, the server refuses for good, or all tries are spent."""
        settings = self.settings
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        url = f"{settings.url.rstrip('/')}/chat/completions"
        reason = ""
        for attempt in range(settings.retries + 1):
            wait = min(LONGEST_WAIT, settings.backoff * 2**attempt) * random.uniform(0.5, 1.5)
            try:
                request = urllib.request.Request(url, json.dumps(body).encode(), headers)
                with self._opener.open(request, timeout=settings.timeout) as response:
                    return _read(json.loads(response.read()), labels)
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
                with error:
                    wait = _told(error.headers.get("Retry-After"), wait)
                if not _may_pass(error.code):
                    return Answer(error=f"{url} refused the question ({reason}: {error.reason}).", lost=True)
            except Exception as error:  # a reply may hold anything, and no other answer may be lost with it
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, Refusal) or isinstance(getattr(error, "reason", None), SSLCertVerificationError):
                    return Answer(error=f"{url} refused the question ({error}).", lost=True)
            if attempt < settings.retries:
                time.sleep(wait)
        return Answer(error=f"{url} gave no answer in {settings.retries + 1} tries ({reason}).", lost=True)


class Refusal(ValueError):
    """An error in a reply that another try would meet again."""


def _may_pass(code: int) -> bool:
    """Whether a try after the HTTP status ``code`` may be answered."""
    return code in WORTH_ANOTHER_TRY or (code >= 500 and code not in NOT_DONE_HERE)


def _told(header: str | None, wait: float) -> float:
    """Seconds to wait: as the server says, if it says so in seconds."""
    return min(LONGEST_WAIT, float(header)) if header is not None and header.isdecimal() else wait


def _read(reply: Mapping, labels: tuple[str, str] | None) -> Answer:
    """The answer in a reply: its text, none where a model was cut off in its thought or would not answer, after its
    thought or its refusal.

    Raises Refusal where the reply is an error that will not pass, and any other error where it holds no message.
    """
    if "choices" not in reply and isinstance(error := reply.get("error"), Mapping):
        code = error.get("code")
        passing = _may_pass(code) if isinstance(code, int) else FINAL.isdisjoint((str(code), str(error.get("type"))))
        raise (ValueError if passing else Refusal)(f"{code}: {error.get('message')}")
    if not reply.get("choices"):
        # An empty list, with what was found of the prompt, is how some say that they will not answer it.
        refused = "prompt_filter_results" in reply or "promptFeedback" in reply
        raise (Refusal if refused else ValueError)(f"the reply holds no answer: {json.dumps(reply)[:200]}")
    choice = reply["choices"][0]
    message = choice["message"]
    text = _words(message.get("content")) or _words(message.get("refusal"))
    # Servers that take the thought out of the answer send it beside it.
    thought = _words(message.get("reasoning_content")) or _words(message.get("reasoning"))
    finish, said = choice.get("finish_reason"), text or thought or isinstance(message.get("content"), str)
    if finish in BROKEN_OFF or (finish is None and not said):
        raise ValueError(f"the reply holds no answer (finish_reason {finish})")
    text = f"<think>{thought}</think>{text}" if thought else text
    # Half of a character, as where an answer was cut, cannot be written to a file.
    return Answer(text.encode("utf-8", "replace").decode(), _probability(choice, labels))


def _words(content: object) -> str:
    """The text in a message's ``content``: a string, parts with texts, or nothing, as where an answer never began."""
    if isinstance(content, list | tuple):
        return "".join(_words(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _probability(choice: Mapping, labels: tuple[str, str] | None) -> float | None:
    """That of the first label; None where the reply says nothing of it that can be read."""
    if labels is None:
        return None
    try:
        content = choice["logprobs"]["content"]
        tops = [{each["token"]: float(each["logprob"]) for each in step["top_logprobs"]} for step in content]
        return label_probability([step["token"] for step in content], tops, labels)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
