"""Forms with files (RFC 7578): read by Django's parser, and written anew for the upstream."""

import io
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import InMemoryUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from gateway.errors import InvalidRequest

MULTIPART: Final = "multipart/form-data"
BINARY: Final = "application/octet-stream"
# As browsers and clients escape them (https://html.spec.whatwg.org/#multipart-form-data).
_ESCAPED: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Upload(NamedTuple):
    field: str
    name: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """The texts of a form in their order, and its files; a name may come several times."""

    texts: tuple[tuple[str, str], ...]
    files: tuple[Upload, ...]

    def fields(self) -> dict[str, Any]:
        """Return the texts by name: the last of each."""
        return dict(self.texts)

    def encoded(self, *, replacing: Mapping[str, str]) -> tuple[bytes, str]:
        """Return the form with some texts replaced or added, and its content type."""
        boundary = secrets.token_hex(16)
        texts = [(name, value) for name, value in self.texts if name not in replacing]
        parts = [
            *(_part(name, value.encode()) for name, value in [*texts, *replacing.items()]),
            *(_part(f.field, f.data, name=f.name, content_type=f.content_type) for f in self.files),
        ]
        opening = f"--{boundary}\r\n".encode()
        body = b"".join(opening + part + b"\r\n" for part in parts)
        return body + f"--{boundary}--\r\n".encode(), f"{MULTIPART}; boundary={boundary}"


def read(body: bytes, *, content_type: str) -> Form:
    """
    Read a form.

    :raises InvalidRequest: if it is none, or has too many parts
    """
    if not content_type.startswith(MULTIPART):
        raise InvalidRequest(f"The body must be {MULTIPART}.")
    head = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    try:
        parser = MultiPartParser(head, io.BytesIO(body), [_InMemory()])
        texts, files = parser.parse()
    except (MultiPartParserError, SuspiciousOperation) as error:
        raise InvalidRequest("The form cannot be read.") from error
    return Form(
        tuple((name, str(value)) for name, values in texts.lists() for value in values),
        tuple(_upload(name, file) for name, found in files.lists() for file in found),
    )


def _upload(field: str, file: UploadedFile) -> Upload:
    return Upload(field, file.name or "file", file.content_type or BINARY, file.read())


def _part(field: str, value: bytes, *, name: str = "", content_type: str = "") -> bytes:
    disposition = f'form-data; name="{field.translate(_ESCAPED)}"'
    head = f"Content-Disposition: {disposition}"
    if content_type:
        head += f'; filename="{name.translate(_ESCAPED)}"\r\nContent-Type: {content_type}'
    return head.encode(errors="replace") + b"\r\n\r\n" + value


class _InMemory(FileUploadHandler):
    """Keeps files where they are: the body is in memory already, and bounded."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._data = bytearray()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._data += raw_data

    def file_complete(self, file_size: int) -> UploadedFile:
        kept: IO[bytes] = io.BytesIO(bytes(self._data))
        return InMemoryUploadedFile(
            kept, self.field_name, self.file_name, self.content_type, file_size, self.charset
        )
