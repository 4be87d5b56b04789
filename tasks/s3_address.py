"""Where a bucket is, read off a store's URL, and who asks, read off the environment.

`s3://bucket[/prefix]?endpoint=http://host:9000[&region=…]`; without an endpoint it is AWS. An URL is shown in reports,
logs and flow parameters, so that one with credentials in it is refused, and never repeated in the message.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import SecretStr

from schemas.errors import StoreError, UsageError
from tasks.object_store import check_key

AWS = "https://s3.amazonaws.com"
"""Where a URL without an endpoint leads."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_BUCKET = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IP_ADDRESS = re.compile(r"(?:[0-9]+\.){3}[0-9]+")
_KEPT_BY_AWS = ("-s3alias", "--ol-s3")
"""No bucket's name ends so."""

_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?")
_REGION = re.compile(_LABEL)
_PREFIX_BYTES = 100
"""With a key of the longest it stays below the 1,024 bytes that S3 takes."""

_HOW = "write s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1; prefix and region may be left out"
_NO_SECRETS = "credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only"


@dataclass(frozen=True)
class S3Address:
    """A bucket at an endpoint, and the prefix that all keys of the store stand behind."""

    bucket: str
    prefix: str
    endpoint: str
    region: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address that a store's URL names.

        Raises
        ------
        UsageError
            It is none, or holds credentials.
        """
        try:
            parts = urlsplit(url)
            said = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise UsageError(f"the store's URL cannot be read; {_HOW}") from None
        if "@" in parts.netloc:
            raise UsageError(f"the store's URL holds credentials; take them out: {_NO_SECRETS}")
        options = dict(said)
        if unknown := sorted(set(options) - {"endpoint", "region"}):
            raise UsageError(
                f"the store's URL says {', '.join(unknown)}, which ALP does not know; {_NO_SECRETS}; {_HOW}"
            )
        if parts.fragment or len(options) < len(said):
            raise UsageError(f"the store's URL has a '#', or says one thing twice; {_HOW}")
        return cls(
            bucket=_bucket(parts.netloc),
            prefix=_prefix(parts.path),
            endpoint=_endpoint(options.get("endpoint", AWS)),
            region=_region(options.get("region")),
        )

    @property
    def url(self) -> str:
        """The URL that leads here again."""
        options = {} if self.endpoint == AWS else {"endpoint": self.endpoint}
        options |= {"region": self.region} if self.region else {}
        return self.uri("").rstrip("/") + (f"?{urlencode(options, safe=':/[]')}" if options else "")

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.endpoint).netloc

    @property
    def secure(self) -> bool:
        """Whether requests are encrypted."""
        return self.endpoint.startswith("https:")

    def key(self, key: str) -> str:
        """The name of an object in its bucket."""
        return f"{self.prefix}{key}"

    def uri(self, key: str) -> str:
        """The object's address, as the tools of S3 write it."""
        return f"s3://{self.bucket}/{quote(self.key(key), safe='/')}"


def _bucket(name: str) -> str:
    shaped = 3 <= len(name) <= 63 and _BUCKET.fullmatch(name) and not _IP_ADDRESS.fullmatch(name)
    if not shaped or name.endswith(_KEPT_BY_AWS):
        # With a colon in it, it may be half of a key and its secret.
        shown = f": {name!r}" if ":" not in name else ""
        raise UsageError(
            f"the store's URL names no bucket{shown}; a bucket has 3 to 63 lower-case letters, digits and, between"
            f" them, hyphens and single dots, and is no address; {_HOW}"
        )
    return name


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if not prefix:
        return ""
    if len(prefix) > _PREFIX_BYTES:
        raise UsageError(f"the store's URL has a prefix of more than {_PREFIX_BYTES} characters; {_HOW}")
    try:
        return f"{check_key(prefix)}/"
    except StoreError as error:
        raise UsageError(f"the store's URL has a prefix that cannot be: {error}; {_HOW}") from None


def _endpoint(said: str) -> str:
    """Scheme, host and port, and nothing else."""
    try:
        parts = urlsplit(said)
        host, _ = parts.netloc, parts.port
    except ValueError:
        raise UsageError(f"the endpoint in the store's URL cannot be read; {_HOW}") from None
    if "@" in parts.netloc:
        raise UsageError(f"the endpoint in the store's URL holds credentials; take them out: {_NO_SECRETS}")
    more = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not _HOST_AND_PORT.fullmatch(host) or more:
        raise UsageError(f"the endpoint in the store's URL is no http://host:port or https://host:port; {_HOW}")
    return f"{parts.scheme}://{parts.netloc}"


def _region(said: str | None) -> str | None:
    if said is not None and not (_REGION.fullmatch(said) and len(said) <= 40):
        raise UsageError(f"the region in the store's URL is no name such as us-east-1; {_HOW}")
    return said


@dataclass(frozen=True)
class Credentials:
    """Who asks; never shown."""

    access_key: str
    secret_key: SecretStr
    session_token: SecretStr | None

    @classmethod
    def of_backup(cls, address: S3Address) -> Self:
        """Those of a backup's server: ALP_BACKUP_ACCESS_KEY_ID and its like where set, else the store's.

        Raises
        ------
        StoreError
            Neither are set.
        """
        own = os.environ.get("ALP_BACKUP_ACCESS_KEY_ID"), os.environ.get("ALP_BACKUP_SECRET_ACCESS_KEY")
        if not any(own):
            return cls.of_environment(address)
        access_key, secret_key = own
        if not access_key or not secret_key:
            raise StoreError(
                "of ALP_BACKUP_ACCESS_KEY_ID and ALP_BACKUP_SECRET_ACCESS_KEY one alone is set; set both to a key of"
                f" the server that keeps the backups, {address.endpoint}, or neither"
            )
        token = os.environ.get("ALP_BACKUP_SESSION_TOKEN")
        return cls(access_key, SecretStr(secret_key), SecretStr(token) if token else None)

    @classmethod
    def of_environment(cls, address: S3Address) -> Self:
        """What every tool for S3 reads: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where set.

        Raises
        ------
        StoreError
            They are not set.
        """
        missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not os.environ.get(name)]
        if missing:
            raise StoreError(
                f"the store {address.uri('')} at {address.endpoint} asks for credentials, and the environment holds no"
                f" {' and no '.join(missing)}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of that server,"
                " also for a MinIO"
            )
        token = os.environ.get("AWS_SESSION_TOKEN")
        return cls(
            access_key=os.environ["AWS_ACCESS_KEY_ID"],
            secret_key=SecretStr(os.environ["AWS_SECRET_ACCESS_KEY"]),
            session_token=SecretStr(token) if token else None,
        )
