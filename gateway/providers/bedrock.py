"""
Amazon Bedrock by its OpenAI-compatible endpoint: a Bedrock API key, or an access key that signs
(https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html).
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import orjson

from gateway.providers.provider import CredentialRefused, Outgoing, Provider
from gateway.routes import CHAT

SERVICE: Final = "bedrock"
_REGION: Final = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.")


async def authenticate(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    """
    Return a bearer token, or a signature (SigV4) where the secret is an access key in JSON.

    :raises CredentialRefused: if it is neither
    """
    if not secret.lstrip().startswith("{"):
        return {"authorization": f"Bearer {secret}"}
    return _signed(secret, outgoing)


def _signed(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    # Only who signs needs them: they take a while to import.
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    try:
        key = orjson.loads(secret)
        credentials = Credentials(
            key["aws_access_key_id"], key["aws_secret_access_key"], key.get("aws_session_token")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CredentialRefused("is no access key of AWS") from error
    request = AWSRequest(
        "POST", outgoing.url, {"content-type": outgoing.content_type}, outgoing.body
    )
    SigV4Auth(credentials, SERVICE, region_of(outgoing.url)).add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


def region_of(url: str) -> str:
    """
    Return the region that a host of AWS is in.

    :raises CredentialRefused: if its name tells none
    """
    found = _REGION.search(urlsplit(url).hostname or "")
    if found is None:
        raise CredentialRefused("signs for a region, and the host names none")
    return found[1]


def base_url(*, region: str) -> str:
    return f"https://bedrock-runtime.{region}.amazonaws.com/openai/v1"


PROVIDER: Final = Provider(
    slug="aws",
    name="Amazon Bedrock",
    paths={CHAT.name: "/chat/completions"},
    authenticate=authenticate,
)
