"""API keys: added to a request below everything that logs or raises, and masked wherever a source repeats them."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from ingestion_assets.engine.errors import Misconfigured

MASK = "***"
KEY = re.compile(rb"\{key\}|%7Bkey%7D", re.IGNORECASE)  # as it is typed, and as it stands in a url


@dataclass(frozen=True)
class Secrets:
    """What a request needs and nobody may see. It is never printed.

    Args:
        query: parameters of the url, such as `{"apikey": "…"}`.
        headers: such as `{"Authorization": "Bearer …"}`.
        path: what the literal `{key}` in the url stands for, as in `https://host/v2/{key}`.
    """

    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str | None = field(default=None, repr=False)

    def values(self) -> set[str]:
        """Every secret text. Of a header such as `Bearer …` also the part that is the key."""
        found = {*self.query.values(), *self.headers.values(), self.path or ""}
        found |= {value.rpartition(" ")[2] for value in self.headers.values()}
        return found - {""}

    def check(self, url: httpx.URL) -> None:
        """See that the url has a place for the key, and that there is a key for the place.

        Raises:
            Misconfigured: one of them is missing.
        """
        if KEY.search(url.raw_path):
            if not self.path:
                raise Misconfigured(f"the url of {url.host} holds {{key}}, but there is no key to put there")
        elif self.path:
            raise Misconfigured(
                f"there is a key for the url of {url.host}, but no {{key}} says where it goes"
            )


class Signed(httpx.BaseTransport):
    """Adds the secrets to the copy of the request that goes on the wire."""

    def __init__(self, transport: httpx.BaseTransport, secrets: Secrets) -> None:
        self._transport = transport
        self._secrets = secrets

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a signed copy; the caller's request, which ends in logs and errors, stays without the secrets."""
        secrets = self._secrets
        url = request.url
        if secrets.path:
            filled = quote(secrets.path, safe="").encode()
            url = url.copy_with(raw_path=KEY.sub(lambda _: filled, url.raw_path))
        if secrets.query:
            url = url.copy_merge_params(secrets.query)
        headers = request.headers.copy()
        headers.update(secrets.headers)
        signed = httpx.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return self._transport.handle_request(signed)

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class Redaction:
    """Takes secrets out of texts, however they are encoded there.

    Args:
        secrets: the texts that nobody may see.
    """

    def __init__(self, secrets: set[str]) -> None:
        # The longest first: where one secret begins like another, none of it may stay.
        pattern = "|".join("".join(map(_written, text)) for text in sorted(secrets, key=len, reverse=True))
        self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None

    def __call__(self, text: str) -> str:
        """`text` with a mask for each secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _written(character: str) -> str:
    """A pattern for one character: plain, or as urls (encoded once or more), JSON and HTML write it."""
    octets = "".join(f"%(?:25){{0,3}}{octet:02x}" for octet in character.encode(errors="replace"))
    units = character.encode("utf-16-be", errors="replace").hex()
    escaped = "".join(rf"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    number = ord(character)
    forms = [octets, escaped, rf"\\?{re.escape(character)}", f"&#0*{number};", f"&#x0*{number:x};"]
    if character == " ":
        forms.append(r"\+")
    if (entity := html.escape(character)) != character:
        forms.append(re.escape(entity))
    return f"(?:{'|'.join(forms)})"
