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

SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    # The first byte cuts the stream in pieces of 1, 2 and 5 bytes.
    "stream": [b"\x03\x01\x02\x05" + body for body in _STREAMS],
    "request": [
        *(json.dumps(body).encode() for body in _BODIES),
        b"tag one, two\x00" + json.dumps(_HELLO).encode(),
        b'{"model":"m","messages":[1],"x":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"model":"m","messages":[1],"user":"\\ud83d\\ude00","x":"\\ud800"}',
    ],
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
    "fields": [],
}  # fmt: skip
