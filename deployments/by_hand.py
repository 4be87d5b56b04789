"""Register the deployments that belong to no customer, `onboard/any_package` and `monitor/any_machine`.

They stand in `prefect.yaml`, where `prefect deploy --all` finds them in a checkout; an installed ALP carries the file
inside. One that is there stays as it is: somebody may have deployed it with other parameters.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.prefect_server import connect_server
from deployments.registering import all_deployments, has_pool, make_pool

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE / "prefect.yaml", _HERE.parent / "prefect.yaml")


def register_by_hand(store: str, pool: str) -> list[str]:
    """Register those that are not there yet, with `store` as where their flows work; full names of these.

    The work pool is made, if it is not there.

    Raises
    ------
    EnvironmentFault
        No Prefect server is configured, it does not answer, or it refuses.
    """
    with connect_server("deployments live on one that stays") as client:
        if not has_pool(client, pool):
            make_pool(client, pool)
        there = all_deployments(client)
        new = {}
        for said in _said():
            flow = _flow_of(said["entrypoint"])
            if (name := f"{flow.name}/{said['name']}") not in there:
                _create(client, flow, said, store, pool)
                new[name] = said
    return list(new)


def _said() -> list[dict[str, Any]]:
    path = next(place for place in _PLACES if place.is_file())
    said: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    return said


def _flow_of(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.rpartition(".")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), name)
    return flow


def _create(client: SyncPrefectClient, flow: Flow[..., Any], said: dict[str, Any], store: str, pool: str) -> None:
    from prefect.utilities.callables import parameter_schema

    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=said["name"],
        parameters={"store": store} | said.get("parameters", {}),
        description=said["description"],
        work_pool_name=pool,
        tags=said["tags"],
        entrypoint=said["entrypoint"],
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        pull_steps=[],
        enforce_parameter_schema=True,
    )
