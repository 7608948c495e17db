"""
Fetches exchange rates over HTTP. What goes wrong is kept and told, and breaks nothing: the rates
that are in force stay so.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

import aiohttp
from django.conf import settings

from spend.currencies import rate_files
from spend.currencies.rate_files import BadFile
from spend.models import RateFetch
from spend.models.currencies import REASON_LENGTH_MAX
from spend.services import exchange_rates

log = logging.getLogger(__name__)

SECONDS_MAX: Final = 30
REDIRECTS_MAX: Final = 3
CHUNK_BYTES: Final = 2**16
FETCH_EVERY: Final = timedelta(hours=4)
TRY_AGAIN_AFTER: Final = timedelta(hours=1)
OK: Final = 200


class NotFetched(Exception):
    """The publisher gave no file, with the reason in words."""


def fetch_if_due(*, now: datetime) -> RateFetch | None:
    """Fetch, unless that is switched off or was done lately; return what was kept of it."""
    last = RateFetch.objects.first()
    if not settings.EXCHANGE_RATES_URL:
        return None
    if last is not None and now - last.at < (TRY_AGAIN_AFTER if last.problem else FETCH_EVERY):
        return None
    return fetch(url=settings.EXCHANGE_RATES_URL, now=now)


def fetch(*, url: str, now: datetime) -> RateFetch:
    """Fetch a file of rates and add them; return what was kept of the attempt, good or bad."""
    try:
        rates = rate_files.read_feed(asyncio.run(_download(url)), today=now.date())
    except (NotFetched, BadFile) as error:
        log.warning("exchange_rates_not_fetched", extra={"error": type(error).__name__})
        return exchange_rates.keep_fetch(RateFetch(at=now, problem=_printable(str(error))))
    added = exchange_rates.add_rates(rates=rates, now=now)
    if added.quarantined:
        log.warning("exchange_rates_quarantined", extra={"rates": len(added.quarantined)})
    return exchange_rates.keep_fetch(
        RateFetch(
            at=now,
            newest=max(each.day for each in rates),
            added=len(added.in_force),
            quarantined=len(added.quarantined),
        )
    )


async def _download(url: str) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=SECONDS_MAX),
                # A packed answer could unpack to anything.
                headers={"accept-encoding": "identity", "user-agent": "costplatform"},
                auto_decompress=False,
            ) as session,
            session.get(url, max_redirects=REDIRECTS_MAX) as reply,
        ):
            return await _body(reply, url)
    except TimeoutError as error:
        raise NotFetched(f"took more than {SECONDS_MAX} seconds") from error
    except (aiohttp.ClientError, ValueError, OSError) as error:
        raise NotFetched(f"cannot be fetched ({type(error).__name__})") from error


async def _body(reply: aiohttp.ClientResponse, url: str) -> bytes:
    if url.startswith("https://") and reply.url.scheme != "https":
        raise NotFetched("was redirected to an address without TLS")
    if reply.status != OK:
        raise NotFetched(f"was answered with status {reply.status}")
    body = bytearray()
    async for chunk in reply.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > rate_files.BYTES_MAX:
            raise NotFetched(f"has more than {rate_files.BYTES_MAX} bytes")
    return bytes(body)


def _printable(text: str) -> str:
    """Return what a publisher may have had a hand in as text that Postgres takes."""
    return "".join(each if each.isprintable() else "?" for each in text)[:REASON_LENGTH_MAX]
