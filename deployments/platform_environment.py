"""How `alp` commands find the local platform: what of it goes into their environment.

What the user set always wins, and an address and what opens it go together: credentials of the platform are never sent
to a server that somebody else named, nor the user's to the platform.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from deployments.platform_home import PlatformHome
from deployments.platform_running import open_platform
from deployments.platform_services import SERVICES, Platform, spare_loopback

_STORE = ("ALP_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PREFECT = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")


@dataclass(frozen=True)
class Adopted:
    """What a command is told of the platform it uses."""

    sentence: str
    is_warning: bool = False


def adopt_platform(environment: MutableMapping[str, str]) -> Adopted | None:
    """Let this process use the platform that its folder or `ALP_PLATFORM` names; None where there is none.

    Raises
    ------
    EnvironmentFault
        Its files cannot be read.
    """
    home = PlatformHome.find()
    if home is None or not home.exists:
        return None
    if not home.is_ours:
        return Adopted(f"The platform in {home.folder} belongs to another user and is not used", is_warning=True)
    platform = open_platform(home)
    groups = _groups(platform)
    if all(environment.get(name) == value for group in groups for name, value in group.wanted.items()):
        return None
    kept_out = {group.what: found for group in groups if (found := group.in_the_way(environment))}
    if len(kept_out) == len(groups):
        return None
    for group in groups:
        if group.what not in kept_out:
            environment.update(group.wanted)
    spare_loopback(environment)
    return _tell(platform, groups, kept_out, environment)


def overruled(platform: Platform, environment: Mapping[str, str]) -> list[str]:
    """Variables of the user's that keep commands from using the platform."""
    return [name for group in _groups(platform) for name in group.in_the_way(environment)]


@dataclass(frozen=True)
class _Group:
    """What leads to one server, and opens it."""

    what: str
    address: str
    wanted: dict[str, str]
    names: tuple[str, ...]
    """Variables by which a user says that it is to be another."""

    def in_the_way(self, environment: Mapping[str, str]) -> list[str]:
        return [name for name in self.names if environment.get(name) and environment[name] != self.wanted.get(name)]


def _groups(platform: Platform) -> tuple[_Group, _Group]:
    record = platform.record
    return (
        _Group("store", record.store, platform.store_environment(), _STORE),
        _Group("Prefect", record.api, platform.prefect_environment(), _PREFECT),
    )


def _tell(
    platform: Platform, groups: Sequence[_Group], kept_out: Mapping[str, list[str]], environment: Mapping[str, str]
) -> Adopted:
    stopped = [service.title for service in SERVICES if platform.record.process_of(service.name) is None]
    if stopped:
        return Adopted(
            f"The platform in {platform.home.folder} does not run ({', '.join(stopped)}): `alp up` starts it; to do"
            " without it, set ALP_PLATFORM to nothing",
            is_warning=True,
        )
    told = [
        f"not its {group.what}, since {kept_out[group.what][0]} is set"
        if group.what in kept_out
        else f"{group.what} {group.address}"
        for group in groups
    ]
    # Keys of another server's alone: nobody said which store is meant, and it is the folder of this machine.
    astray = "store" in kept_out and not environment.get("ALP_STORE")
    return Adopted(f"Platform {platform.home.folder}: {', '.join(told)}", is_warning=astray)
