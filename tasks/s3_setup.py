"""Make a bucket ready to be a store: the bucket itself, its versions, and the rules by which it forgets.

It may be done as often as one likes: what is there already stays as it is.
"""

from __future__ import annotations

from minio.commonconfig import ENABLED, Filter
from minio.error import InvalidResponseError, S3Error, ServerError
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.versioningconfig import VersioningConfig

from tasks.s3_errors import telling
from tasks.s3_lease import LOCKS
from tasks.s3_store import S3Store
from tasks.store_setup import Step

OLD_VERSIONS_DAYS = 30
"""How long what was overwritten or deleted can be brought back."""

CACHE_DAYS = 30
"""How long a cache lies there; what is missing is computed again."""

_LOCK_DAYS, _UPLOAD_DAYS = 7, 7
_CACHES = ("embeddings/",)
_RULES = "alp-"
_REFUSALS = (S3Error, ServerError, InvalidResponseError)


def init_bucket(store: S3Store) -> list[Step]:
    """See to the bucket, its versioning and the rules by which it forgets.

    Raises
    ------
    StoreError
        The server cannot be reached, refuses the credentials, or does not let a bucket be made.
    """
    return [_make_bucket(store), _keep_versions(store), _set_rules(store)]


def _make_bucket(store: S3Store) -> Step:
    sdk, address = store.bucket.sdk, store.address
    with telling(address, "making the bucket"):
        try:
            # A listing and not a HEAD, which says of a wrong key no more than of a bucket that is another's.
            next(iter(sdk.list_objects(address.bucket, extra_query_params={"max-keys": "1"})), None)
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            sdk.make_bucket(address.bucket, location=address.region)
            return Step("bucket", "made", f"{address.bucket} at {address.endpoint}")
    return Step("bucket", "there", f"{address.bucket} at {address.endpoint}")


def _keep_versions(store: S3Store) -> Step:
    sdk, bucket = store.bucket.sdk, store.address.bucket
    said = f"what is overwritten or deleted can be brought back for {OLD_VERSIONS_DAYS} days"
    with telling(store.address, "turning on versioning"):
        try:
            if sdk.get_bucket_versioning(bucket).status == ENABLED:
                return Step("versioning", "there", said)
            sdk.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
        except _REFUSALS as error:
            return Step("versioning", "cannot", f"{_reason(error)}; what is overwritten is gone")
    return Step("versioning", "made", said)


def _set_rules(store: S3Store) -> Step:
    """Rules of others are left alone: the SDK would not write back all that they may hold."""
    sdk, bucket = store.bucket.sdk, store.address.bucket
    with telling(store.address, "setting the lifecycle"):
        try:
            config = sdk.get_bucket_lifecycle(bucket)
            there = list(config.rules) if config is not None else []
            if foreign := [str(rule.rule_id) for rule in there if not str(rule.rule_id).startswith(_RULES)]:
                named = ", ".join(foreign)
                return Step("lifecycle", "cannot", f"the bucket has rules of its own ({named}), left as they are")
            return _add_rules(store, there)
        except _REFUSALS as error:
            return Step("lifecycle", "cannot", f"{_reason(error)}; remove by hand what has become old")


def _add_rules(store: S3Store, there: list[Rule]) -> Step:
    ours = _rules(store.address.prefix)
    named = {rule.rule_id: rule for rule in there}
    missing = [rule for rule in ours if rule.rule_id not in named]
    if missing:
        store.bucket.sdk.set_bucket_lifecycle(store.address.bucket, LifecycleConfig([*there, *missing]))
    other = [str(rule.rule_id) for rule in ours if _terms(named.get(rule.rule_id, rule)) != _terms(rule)]
    said = (
        f"caches go after {CACHE_DAYS} days, old versions after {OLD_VERSIONS_DAYS}, locks not used for {_LOCK_DAYS}"
        f" and uploads broken off {_UPLOAD_DAYS} days ago"
    )
    if other:
        said += f"; but somebody has set {', '.join(other)} otherwise, left as they are"
    return Step("lifecycle", "made" if missing else "there", said)


def _terms(rule: Rule) -> tuple[object, ...]:
    """After how long a rule forgets what; not of uploads, which some servers see to by themselves and do not say."""
    after, old = rule.expiration, rule.noncurrent_version_expiration
    return rule.status, after.days if after else None, old.noncurrent_days if old else None


def _rules(prefix: str) -> list[Rule]:
    """By which a store forgets. Several stores in one bucket have rules of their own each."""
    caches = [
        Rule(ENABLED, rule_filter=Filter(prefix=f"{prefix}{cache}"), rule_id=f"{_RULES}{prefix}{cache.strip('/')}",
             expiration=Expiration(days=CACHE_DAYS))
        for cache in _CACHES
    ]  # fmt: skip
    return [
        *caches,
        Rule(ENABLED, rule_filter=Filter(prefix=f"{prefix}{LOCKS}"), rule_id=f"{_RULES}{prefix}locks",
             expiration=Expiration(days=_LOCK_DAYS),
             noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=1)),
        Rule(ENABLED, rule_filter=Filter(prefix=prefix), rule_id=f"{_RULES}{prefix}old-versions",
             noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=OLD_VERSIONS_DAYS),
             expiration=Expiration(expired_object_delete_marker=True),
             abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=_UPLOAD_DAYS)),
    ]  # fmt: skip


def _reason(error: S3Error | ServerError | InvalidResponseError) -> str:
    said = f"{error.code}: {error.message}" if isinstance(error, S3Error) else type(error).__name__
    return f"the server refuses it ({said})"
