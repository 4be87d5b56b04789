"""What goes wrong with an S3 server, in a sentence that names the endpoint and the remedy, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from schemas.errors import StoreError
from tasks.s3_address import S3Address

ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "ResourceNotFound"})
"""There is no such object."""

REFUSED_CONDITION = frozenset({"PreconditionFailed", "NoSuchKey"})
"""A conditional write is refused: another version lies there, or none (AWS answers 404 to `If-Match` on nothing)."""

UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed"})
"""The server cannot do that at all."""

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

REMEDIES = {
    "NoSuchBucket": ("there is no such bucket", "make it with: alp store init '{url}'"),
    "InvalidBucketName": ("the server takes no bucket of that name", "choose another in the store's URL"),
    "InvalidAccessKeyId": ("the server does not know the access key", f"{_KEYS}: they belong to another server"),
    "SignatureDoesNotMatch": ("the secret key is not the access key's", f"{_KEYS}: they do not belong together"),
    "InvalidTokenId": ("the session token is not valid", "fetch new credentials, AWS_SESSION_TOKEN with them"),
    "ExpiredToken": ("the session token has expired", "fetch new credentials, AWS_SESSION_TOKEN with them"),
    "RequestTimeTooSkewed": ("this machine's clock and the server's differ", "set both by a time server (NTP)"),
    "AccessDenied": (
        "the access key may not do that",
        "give it the rights to list the bucket and to read, write and delete in it, or take another",
    ),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "say &region=… in the store's URL"),
    "PermanentRedirect": ("the bucket is in another region", "say &region=… in the store's URL"),
    "QuotaExceeded": ("the bucket is full", "give it more room, or erase what is not needed"),
    "XMinioStorageFull": ("the server's disks are full", "give it more room"),
    "EntityTooLarge": ("the object is too large for the server", "raise the server's limit"),
}
"""Why a request is refused, and what to do, by the server's code."""


@contextmanager
def telling(address: S3Address, what: str) -> Iterator[None]:
    """Turn whatever the SDK raises within into a `StoreError`; `what` was to be done, as a phrase."""
    try:
        yield
    except S3Error as error:
        raise _refusal(address, what, error) from error
    except (ServerError, InvalidResponseError, ParseError, ValueError) as error:
        # A page of a proxy, to log in say, is no XML, or another, or not even UTF-8, or a 200 without what S3 sends.
        status = getattr(error, "status_code", None) or getattr(error, "_code", "what no S3 server says")
        raise StoreError(
            f"{what} failed: the server at {address.endpoint} answers {status}; is it an S3 server, and is it"
            " well? Look at its log, then start the command again"
        ) from error
    except (HTTPError, MinioException) as error:
        raise StoreError(
            f"{what} failed: {address.endpoint} {_silence(error)}; check that the server runs and that the endpoint in"
            " the store's URL is right, then start the command again: it goes on where it stopped"
        ) from error


def absent(address: S3Address, key: str) -> StoreError:
    """There is no object of that key."""
    return StoreError(f"s3://{address.bucket} at {address.endpoint} holds no object {address.key(key)!r}")


def _refusal(address: S3Address, what: str, error: S3Error) -> StoreError:
    why, remedy = REMEDIES.get(str(error.code), (f"the server says {error.code}: {error.message}", "look at its log"))
    return StoreError(
        f"{what} failed at {address.endpoint}, bucket {address.bucket}: {why}; {remedy.format(url=address.url)}"
    )


def _silence(error: Exception) -> str:
    """How a server does not answer; urllib3's own words hold objects' addresses and counts of tries."""
    cause = getattr(error, "reason", None) or error
    kind = type(cause).__name__
    if "SSL" in kind or "Certificate" in kind:
        return f"has a certificate that is not trusted here ({kind}; SSL_CERT_FILE names one's own authority)"
    if "Timeout" in kind:
        return "does not answer in time"
    if "Resolution" in kind:
        return "is a host that nobody knows"
    if "NewConnection" in kind:
        return "does not answer"
    return f"broke off the connection ({kind})"
