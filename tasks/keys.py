"""Where things lie in the store. Keys hold hashes and checked slugs, never a user's text.

The map is drawn in docs/storage.md; every key is made here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re

from schemas.customers import LONGEST_NAME, SLUG
from schemas.errors import UsageError

_SLUG = re.compile(SLUG)
_LONGEST_SLUG = LONGEST_NAME


def check_customer(name: str) -> str:
    """`name` itself, if it is a slug.

    Raises
    ------
    UsageError
        It is not lower-case letters, digits and single hyphens, at most 48 of them.
    """
    if not _SLUG.fullmatch(name) or len(name) > _LONGEST_SLUG:
        raise UsageError(
            f"customer {name!r} cannot be used as a name in the store: use at most {_LONGEST_SLUG} lower-case"
            " letters, digits and single hyphens, such as 'acme-ulsan'"
        )
    return name


def asset_id(machine_type: str, section_id: str) -> str:
    """Slug of an asset, unique within its customer: `compressor-00`.

    A section that is no slug itself ("라인 3", "Line_3") keeps what is readable of it and gets a hash behind an
    underscore, which no slug holds, so that two sections never share a key.
    """
    section = section_id
    if not _SLUG.fullmatch(section) or len(section) > _LONGEST_SLUG:
        readable = re.sub(r"[^a-z0-9]+", "-", section.lower()).strip("-")[:24].strip("-")
        section = f"{readable}_{hashlib.sha256(section.encode()).hexdigest()[:10]}"
    return f"{machine_type}-{section}"


def raw(customer: str, package_id: str) -> str:
    return f"raw/{customer}/{package_id}.zip"


def package(customer: str, package_id: str, name: str) -> str:
    return f"packages/{customer}/{package_id}/{name}"


def clip_audio(customer: str, package_id: str, sha12: str) -> str:
    return package(customer, package_id, f"audio/{sha12}.flac")


def asset(customer: str, asset: str, name: str) -> str:
    return f"assets/{customer}/{asset}/{name}"


def model(customer: str, asset_: str, version: str) -> str:
    return asset(customer, asset_, f"models/{version}")


def library(machine_type: str, customer: str, package_id: str) -> str:
    return f"library/{machine_type}/{customer}-{package_id}.parquet"


def library_parts(key: str) -> tuple[str, str, str]:
    """Machine type, customer and package of a library key; a customer's name may hold hyphens, a package's id none."""
    machine_type, _, name = key.removeprefix("library/").removesuffix(".parquet").partition("/")
    customer, _, package_id = name.rpartition("-")
    return machine_type, customer, package_id


def growth(machine_type: str) -> str:
    return f"retraining/{machine_type}/growth.json"


def retraining_policy() -> str:
    return "retraining/policy.json"


def consent(customer: str) -> str:
    return f"customers/{customer}/consent.json"


def purge(customer: str) -> str:
    """That a purge was begun; not among what is the customer's own, which it deletes."""
    return f"purges/{customer}.json"


def inbox_log(customer: str) -> str:
    return f"customers/{customer}/inbox.json"


def fleet(customer: str) -> str:
    return f"customers/{customer}/fleet.html"


def corrections(customer: str, asset_id: str) -> str:
    return asset(customer, asset_id, "corrections.json")


def run(customer: str, run_id: str, name: str) -> str:
    return f"runs/{customer}/{run_id}/{name}"


def recordings(customer: str, asset_id: str, name: str = "") -> str:
    """What a recorder files to be watched; below it names are the recorder's own."""
    return f"recordings/{customer}/{asset_id}/{name}"


def alarm(customer: str, asset_id: str, name: str) -> str:
    return asset(customer, asset_id, f"alarms/{name}")


def monitor(customer: str, asset_id: str, name: str) -> str:
    return asset(customer, asset_id, f"monitor/{name}")
