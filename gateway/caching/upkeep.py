"""Looks after what is kept, for whoever runs this: by redis-py, without a hurry."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
from django.conf import settings

from gateway.caching import scripts
from gateway.errors import CacheUnavailable


def ping() -> None:
    """
    Return if the cache is on and its server answers.

    :raises CacheUnavailable: if not
    """
    if settings.RESPONSE_CACHE != "on":
        raise CacheUnavailable("The response cache is off: set RESPONSE_CACHE=on.")
    with _answering():
        _server().ping()


def delete(keys: Sequence[str]) -> int:
    """
    Drop the answers of these keys; return how many there were.

    :raises CacheUnavailable: if the server does not answer
    """
    return _drop(keys) if keys else 0


def delete_all() -> int:
    """
    Drop every answer of every organization; return how many there were.

    Safe to run while answers are kept: what comes meanwhile may stay.

    :raises CacheUnavailable: if the server does not answer
    """
    dropped = 0
    # Not more than there were: answers that keep coming must not keep this going.
    left = _count()
    while left > 0 and (some := _drop(())):
        dropped += some
        left -= some
    return dropped


def _count() -> int:
    with _answering():
        return int(_server().zcard(f"{scripts.TAG}expiry"))


def _drop(keys: Sequence[str]) -> int:
    with _answering():
        (dropped,) = _server().eval(scripts.DROP.text, 1, scripts.TAG, *keys)
    return int(dropped)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise CacheUnavailable("The server of the response cache does not answer.") from error


@cache
def _server() -> Any:  # redis-py types a reply as all that any command may answer
    return redis.Redis.from_url(
        settings.RESPONSE_CACHE_URL or settings.REDIS_URL,
        socket_timeout=10, socket_connect_timeout=5, health_check_interval=30,
    )  # fmt: skip
