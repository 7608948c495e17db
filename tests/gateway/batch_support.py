"""A provider of files and batches for tests, and what tests ask of the gateway about them."""

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.test import override_settings

from gateway.addresses import Allowed
from gateway.batches import settling
from gateway.batches.reading import ENDED
from gateway.models import DUE_STATES, BatchState, GatewayBatch
from gateway.routes import forms
from tests.gateway.support import HELLO, Answer, get, post
from tests.gateway.upstreams import Canned, Sent, Upstream
from tests.stack import wait_until

BEFORE = "/v1/"


class BatchProvider:
    """Keeps files and batches in memory; how a batch goes on is told by the test."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, Canned] = {}
        """What is answered to any request whose path ends so."""
        self._lock = threading.Lock()

    def serve(self, sent: Sent) -> Canned | None:
        for end, canned in self.broken.items():
            if sent.path.endswith(end):
                return canned
        kind, *below = sent.path.removeprefix(BEFORE).split("/")
        if kind not in {"files", "batches"}:
            return None
        with self._lock:
            return self._file(sent, below) if kind == "files" else self._batch(sent, below)

    def end(
        self, batch: str, lines: Sequence[object] | None, *, status: str = "completed", **more: Any
    ) -> None:
        """End a batch with this output, None if it has written none."""
        told = self.batches[batch] | {"status": status} | more
        if lines is not None:
            output = f"file-out-{batch}"
            self.files[output] = b"".join(
                each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n"
                for each in lines
            )
            told["output_file_id"] = output
        self.batches[batch] = told

    @staticmethod
    def _new_id(kind: str) -> str:
        return f"{kind}{uuid.uuid4().hex}"

    def _file(self, sent: Sent, below: list[str]) -> Canned:
        if not below:
            form = forms.read(sent.body, content_type=sent.headers["content-type"])
            id = self._new_id("file-up-")
            self.files[id] = form.files[0].data
            return Canned.json({"id": id, "object": "file", "bytes": len(self.files[id])})
        id, *what = below
        if id not in self.files:
            return Canned.json({"error": {"message": f"No such file: {id}"}}, status=404)
        if sent.method == "DELETE":
            del self.files[id]
            return Canned.json({"id": id, "object": "file", "deleted": True})
        if what == ["content"]:
            return Canned((self.files[id],), content_type="application/octet-stream")
        return Canned.json({"id": id, "object": "file", "bytes": len(self.files[id])})

    def _batch(self, sent: Sent, below: list[str]) -> Canned:
        if not below:
            id = self._new_id("batch_up_")
            self.batches[id] = sent.json | {
                "id": id, "object": "batch", "status": "in_progress", "created_at": 1,
                "output_file_id": None, "error_file_id": None,
                "request_counts": {"total": 1, "completed": 0, "failed": 0},
            }  # fmt: skip
            return Canned.json(self.batches[id])
        id, *what = below
        if id not in self.batches:
            return Canned.json({"error": {"message": f"No such batch: {id}"}}, status=404)
        if what == ["cancel"]:
            self.batches[id]["status"] = "cancelling"
        return Canned.json(self.batches[id])


@contextmanager
def serving(upstream: Upstream) -> Iterator[BatchProvider]:
    """Have the upstream serve batches; in the end each of its batches is settled."""
    provider = BatchProvider()
    upstream.answers(Canned.json({}))
    upstream.serve = provider.serve
    since = datetime.now(UTC)
    allowed = Allowed.of(f"127.0.0.1/32:{upstream.base.rpartition(':')[2]}")
    with override_settings(GATEWAY_ALLOW_PRIVATE_UPSTREAMS=[allowed]):
        try:
            yield provider
        finally:
            provider.broken.clear()
            for id, told in provider.batches.items():
                if told["status"] not in ENDED:
                    provider.end(id, None, status="failed")
            settle(rounds=3, since=since)
            upstream.serve = lambda _: None


def settle(*, rounds: int = 1, since: datetime | None = None) -> None:
    """Have the scheduled work done so many times, as if everything were due."""
    for _ in range(rounds):
        make_due()
        settling.settle_due(now=datetime.now(UTC))
    if since is not None:
        left = GatewayBatch.objects.filter(state=BatchState.OPEN, created_at__gte=since)
        assert not left.exists(), list(left.values_list("problem", flat=True))


def make_due() -> None:
    GatewayBatch.objects.filter(state__in=DUE_STATES).update(next_look_at=datetime.now(UTC))


def line(
    model: str, custom_id: str = "1", *, url: str = "/v1/chat/completions", **fields: Any
) -> dict[str, Any]:
    body = {"model": model, "messages": HELLO, "max_tokens": 100} | fields
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(*lines: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def upload(url: str, secret: str, data: bytes, *, purpose: str = "batch", **fields: str) -> Answer:
    texts = (("purpose", purpose), *fields.items())
    form = forms.Form(texts, (forms.Upload("file", "in.jsonl", "application/jsonl", data),))
    body, content_type = form.encoded(replacing={})
    return post(url, secret, body, path="/v1/files", content_type=content_type)


def create(url: str, secret: str, file_id: str, **fields: Any) -> Answer:
    wanted = {
        "input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h",
    }  # fmt: skip
    return post(url, secret, wanted | fields, path="/v1/batches")


def begun(url: str, secret: str, model: str, *, lines: int = 1, **fields: Any) -> GatewayBatch:
    """Return a batch of so many lines that is at its provider."""
    file = upload(url, secret, jsonl(*(line(model, str(n), **fields) for n in range(lines))))
    assert file.status == 200, file
    answer = create(url, secret, file.json["id"])
    assert answer.status == 200, answer
    return GatewayBatch.objects.get(public_id=answer.json["id"])


def answered(
    custom_id: str = "1", *, prompt: int = 10, completion: int = 5, status: int = 200, **usage: Any
) -> dict[str, Any]:
    """Return a line of output that tells its usage."""
    told = {"prompt_tokens": prompt, "completion_tokens": completion} | usage
    body = {"id": "c", "object": "chat.completion", "choices": [], "usage": told}
    return {
        "id": f"batch_req_{custom_id}", "custom_id": custom_id, "error": None,
        "response": {"status_code": status, "request_id": "r", "body": body},
    }  # fmt: skip


def polled(url: str, secret: str, batch: GatewayBatch) -> Answer:
    return get(url, secret, f"/v1/batches/{batch.public_id}")


def in_ledger(batch: GatewayBatch) -> GatewayBatch:
    """Return the batch as soon as its cost is in the ledger and its row says so."""

    def is_settled() -> bool:
        settle()
        batch.refresh_from_db()
        return batch.state == BatchState.SETTLED

    wait_until(is_settled, seconds=20)
    return batch
