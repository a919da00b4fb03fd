"""The header fields of a request: those that a model may set, and those that only a secret may fill.

A secret is named here and put in where the request is sent: what is planned, shown and recorded holds its name.
"""

import re
from collections.abc import Mapping

import attrs

from palyra_trio import __version__
from palyra_trio.core.errors import PolicyError
from palyra_trio.core.references import SecretReference, secret_in
from palyra_trio.tools.egress import Place, refused
from palyra_trio.tools.fetch_request import Request
from palyra_trio.tools.secret_use import ToolSecrets

MAX_HEADER_CHARACTERS = 1024
MAX_SECRET_CHARACTERS = 16 * 1024  # tokens that carry claims are long
ALLOWED = ("accept", "accept-language", "if-modified-since", "if-none-match")

_FIELD_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]{1,64}", re.ASCII)
_FIELD_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_FRAMES_A_MESSAGE = re.compile(
    "host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|accept-encoding|user-agent"
)


@attrs.frozen
class Asked:
    """The fields as they are shown, by lower-case name, and which of them are filled by a secret."""

    fields: dict[str, str]
    secrets: dict[str, SecretReference]


def asked_headers(asked: Mapping[str, str], place: Place) -> Asked:
    """Return the fields of a request to `place`. Raises PolicyError for one that may not be set, or not there."""
    fields = {"user-agent": f"palyra-trio/{__version__}", "accept-encoding": "gzip", "accept": "*/*"}
    secrets = dict[str, SecretReference]()
    for spelled, value in asked.items():
        name, reference = spelled.lower(), secret_in(value)
        if len(value) > MAX_HEADER_CHARACTERS or not _FIELD_VALUE.fullmatch(value):
            raise refused("header", f"the value of {spelled} is not a line of up to {MAX_HEADER_CHARACTERS} characters")
        if reference is not None:
            _check_fillable(spelled, place)
            secrets[name] = reference
        elif name not in ALLOWED:
            remedy = f"one may set {', '.join(ALLOWED)}; others only to secret:NAME, such as Bearer secret:NAME"
            raise refused("header", f"the header {spelled!r} may not be set", remedy=remedy)
        fields[name] = value
    return Asked(fields, secrets)


def filled(request: Request, secrets: Mapping[str, SecretReference], place: Place, vault: ToolSecrets) -> Request:
    """Return the request as it is sent to `place`. Raises what `vault` raises, and PolicyError for a value of more than a line."""
    fields = dict(request.headers)
    for name, reference in secrets.items():
        value = vault.reveal(reference, place.host, place.port)
        if len(value) > MAX_SECRET_CHARACTERS or not _FIELD_VALUE.fullmatch(value):
            raise _unfit(reference)
        fields[name] = value
    return attrs.evolve(request, headers=fields)


def _check_fillable(name: str, place: Place) -> None:
    if not _FIELD_NAME.fullmatch(name) or _FRAMES_A_MESSAGE.fullmatch(name.lower()):
        raise refused("header", f"the header {name!r} may not be set, by a secret neither")
    if place.scheme != "https":
        raise refused("secret_in_clear", f"{place.url} is not encrypted, so no secret goes there", remedy="use https")


def _unfit(reference: SecretReference) -> PolicyError:
    return refused(
        "header",
        f"what the secret {reference.name} holds is not a line of up to {MAX_SECRET_CHARACTERS} printable characters",
    )
