"""Erase from a bucket for good: every version, every mark of a deletion, every part of an upload that broke off."""

from __future__ import annotations

import re
from collections.abc import Iterable

from minio.datatypes import Object
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from schemas.errors import StoreError
from tasks.s3_bucket import Bucket
from tasks.s3_errors import UNKNOWN, telling

_NOT_IN_XML = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")
"""What other tools may put into a name, and a list of names to delete cannot hold."""


def erase_below(bucket: Bucket, prefix: str, *, but: str) -> list[str]:
    """Erase whatever starts with `prefix`, but not what starts with `but`; its names in the bucket.

    Raises
    ------
    StoreError
        The server cannot be asked, or does not let something go.
    """
    _break_off_uploads(bucket, prefix)
    gone = _versions(bucket, prefix, but=but)
    with telling(bucket.address, f"erasing {prefix or 'the store'}"):
        refused = _erase(bucket, gone)
    # Servers differ in what they do with odd names, and say that it was done.
    left = refused or [_name(each) for each in (_versions(bucket, prefix, but=but) if gone else ())]
    if left:
        raise StoreError(
            f"{len(left)} objects below {bucket.address.uri(prefix)} cannot be erased, {left[0]!r} among them; let the"
            " access key delete versions (s3:DeleteObjectVersion), look whether the bucket is locked, and remove by"
            " hand what has a name that cannot be written"
        )
    return [_name(each) for each in gone]


def _versions(bucket: Bucket, prefix: str, *, but: str) -> list[Object]:
    return [each for each in bucket.list_versions(prefix) if not _name(each).startswith(but)]


def _name(found: Object) -> str:
    return found.object_name or ""


def _erase(bucket: Bucket, gone: Iterable[Object]) -> list[str]:
    """A thousand at a time, and one by one what a list cannot name; the names of what was refused."""
    odd = [each for each in gone if _NOT_IN_XML.search(_name(each))]
    plain = (DeleteObject(_name(each), each.version_id) for each in gone if not _NOT_IN_XML.search(_name(each)))
    for each in odd:
        bucket.sdk.remove_object(bucket.address.bucket, _name(each), version_id=each.version_id)
    # The SDK sends as many requests as its answers are read.
    return [error.name or "" for error in bucket.sdk.remove_objects(bucket.address.bucket, plain)]


def _break_off_uploads(bucket: Bucket, prefix: str) -> None:
    """Forget the parts of objects whose last part never came, which no listing shows. The SDK keeps that to itself."""
    sdk, address, known = bucket.sdk, bucket.address, set[str | None]()
    bucket.check()
    with telling(address, f"looking for uploads that broke off below {prefix or 'the store'}"):
        try:
            while True:
                listed = sdk._list_multipart_uploads(address.bucket, prefix=address.key(prefix)).uploads
                fresh = [each for each in listed if each.upload_id not in known]
                if not fresh:
                    return
                for each in fresh:
                    sdk._abort_multipart_upload(address.bucket, each.object_name or "", each.upload_id or "")
                known.update(each.upload_id for each in fresh)
        except S3Error as error:
            if error.code not in UNKNOWN:
                raise
