"""Completions of a prompt, the older shape without messages."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.routes import chat
from gateway.routes import fields as read
from gateway.routes.answers import GOES_ON, Answers, Json, StreamUsage, Told
from gateway.routes.asked import Asked
from gateway.routes.fields import Headers
from gateway.routes.texts import count_texts
from gateway.written import Written
from spend.usage import Reading, openai_chat

PROMPTS_MAX: Final = 2_048
TEXTS: Final = "text"


def parse(body: bytes, *, headers: Headers) -> Asked:
    """
    Read a request.

    :raises InvalidRequest: naming the parameter that does not fit
    """
    fields = read.of_body(body)
    prompts = _prompts(fields)
    most = chat.CHOICES_MAX
    each = [read.whole(fields, name, at_least=1, at_most=most) or 1 for name in ("n", "best_of")]
    return Asked(
        fields=fields,
        model=read.model_of(fields),
        stream=read.typed(fields, "stream", bool) or False,
        hides_usage=not chat.wants_usage(fields),
        choices=max(each) * prompts,
        output_tokens_asked=read.tokens(fields, "max_tokens"),
        service_tier=read.service_tier(fields),
        end_user=read.end_user(fields, headers),
        tags=read.tags(fields, headers),
    )


def _prompts(fields: Mapping[str, Any]) -> int:
    """Return how many prompts there are: a list of text is one for each, one of tokens is one."""
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list) or not len(prompt) > 0:
        raise InvalidRequest("prompt must be text, or a list that is not empty.", param="prompt")
    if all(isinstance(part, int) for part in prompt):
        return 1
    if len(prompt) > PROMPTS_MAX or not all(isinstance(part, str | list) for part in prompt):
        raise InvalidRequest(
            f"prompt must be a list of at most {PROMPTS_MAX} texts, or of tokens.", param="prompt"
        )
    return len(prompt)


class CompletionAnswers(Answers):
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        return openai_chat.read(reply, request=request)

    def stream(self, request: Json) -> StreamUsage:
        return openai_chat.Stream(request=request)

    def note(self, reply: Json, written: Written) -> None:
        for index, text in _texts(reply):
            written.add_text((index, TEXTS), text)

    def note_event(self, event: Json, written: Written) -> Told:
        self.note(event, written)
        if event.get("usage") is not None:
            return Told(is_whole=True, only_usage=event.get("choices") == [])
        return GOES_ON

    def count_prompt(self, request: Json, *, model: str) -> int:
        return count_texts([request.get("prompt")], model=model)


def _texts(reply: Json) -> Iterator[tuple[int, str]]:
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and isinstance(text := choice.get("text"), str):
            index = choice.get("index")
            yield (index if isinstance(index, int) else 0), text
