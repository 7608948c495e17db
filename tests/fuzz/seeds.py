"""Where fuzzing begins: inputs that look like the real thing, and the pieces they are made of."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

_HELLO: Final = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
_STREAMS: Final = (
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n',
    b'event: x\r\ndata: {"b":2}\r\n\r\n: OPENROUTER PROCESSING\n\ndata: 1\r\r\ndata: 2\n\r\n',
    b"\xef\xbb\xbfdata: one\ndata: two\n\ndata\n\ndata\ndata:\ndata:  x\n\n",
    b"data: \xc3\xa9\x00\xff\n\rdata: cut\r\n\rdata: \xed\xa0\x80\n\nid: 7\nretry: 1\ndata: rest",
)
_BODIES: Final = (
    _HELLO,
    _HELLO | {"stream": True, "stream_options": {"include_usage": True}, "n": 2, "max_tokens": 5},
    _HELLO | {"metadata": {"tags": ["a", "b"], "user_id": "u"}, "service_tier": "flex"},
    _HELLO
    | {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}}]
    },
)

_OTHER_BODIES: Final = (
    {"model": "m", "prompt": ["a", "b"], "best_of": 2},
    {"model": "m", "input": [{"type": "message", "content": [{"type": "input_text"}]}]},
    {"model": "m", "input": [[1, 2], "x"], "voice": "v"},
    {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]},
    {"model": "m", "max_tokens": 5, "system": "s", "messages": [{"content": [{"type": "text"}]}]},
    {"model": "m", "prompt": "a cat", "n": 2},
)


def _form(*texts: tuple[str, bytes], file: str) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"'
    parts = [head % name.encode() + b"\r\n\r\n" + value + b"\r\n" for name, value in texts]
    parts.append(head % file.encode() + b'; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n')
    return b"".join(parts) + b"RIFF\x00\r\n--b--\r\n"


SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    # The first byte cuts the stream in pieces of 1, 2 and 5 bytes.
    "stream": [b"\x03\x01\x02\x05" + body for body in _STREAMS],
    "request": [
        *(json.dumps(body).encode() for body in _BODIES),
        b"tag one, two\x00" + json.dumps(_HELLO).encode(),
        b'{"model":"m","messages":[1],"x":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"model":"m","messages":[1],"user":"\\ud83d\\ude00","x":"\\ud800"}',
        *(json.dumps(body).encode() for body in _OTHER_BODIES),
    ],
    "form": [_form(("model", b"m"), ("prompt", b"hi"), file=name) for name in ("file", "image")],
    "fields": [bytes(range(start, start + 64)) for start in (0, 64, 128, 192)],
}

WORDS: Final[Mapping[str, Sequence[bytes]]] = {
    "stream": [b"data:", b"data", b"\r\n\r\n", b"\n\n", b"\r\r", b"\n\r", b":", b"\xef\xbb\xbf"],
    "request": [
        b'"messages":', b'"model":', b'"stream":true', b'"stream_options":', b'"metadata":',
        b'"tags":', b'"user":', b'"tools":', b'"n":', b'"max_tokens":', b'"content":', b'"type":',
        b'"service_tier":', b"[", b"]", b"{", b"}", b'"', b",", b"null", b"\\u0000", b"\\ud800",
        b"1e400", b"\x00",
    ],
    "form": [
        b"--b\r\n", b"--b--\r\n", b"Content-Disposition: form-data; ", b'name="model"',
        b'name="file"', b'name="image[]"', b'filename="a"', b"Content-Type: audio/wav", b"\r\n",
        b"Content-Transfer-Encoding: base64\r\n", b"; charset=utf-16", b"filename*=utf-8''a",
    ],
    "fields": [],
}  # fmt: skip
