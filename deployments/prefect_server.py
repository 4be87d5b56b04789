"""A client of the Prefect server that is configured, with every way in which it can be away told as one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import EnvironmentFault
from tasks.events import server_url, shown_server, without_credentials

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.events.schemas.automations import Automation

_PAGE = 200


@contextmanager
def connect_server(needed: str) -> Iterator[SyncPrefectClient]:
    """A client of the configured server. `needed` says for what one must stay: `automations live on one that stays`.

    Raises
    ------
    EnvironmentFault
        None is configured, it does not answer, or it refuses.
    """
    import httpx
    from prefect.client.orchestration import get_client

    from deployments.onboarding import check_server

    check_server(require_server(needed))
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPError as error:
        raise EnvironmentFault(
            f"the Prefect server at {shown_server()} refuses or does not answer ({without_credentials(str(error))})"
        ) from error


def require_server(needed: str) -> str:
    """URL of the configured server, which is asked nothing; an EnvironmentFault where none is configured."""
    url = server_url()
    if url is None:
        raise EnvironmentFault(
            f"no Prefect server is configured, and {needed}: `alp up` starts one here with all it needs; or set"
            " PREFECT_API_URL to yours, such as http://127.0.0.1:4200/api"
        )
    return url


def of_runs_under_way() -> FlowRunFilter:
    """Flow runs that a worker has taken and that have not ended."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    busy = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=busy)))


def all_automations(client: SyncPrefectClient) -> list[Automation]:
    """Every automation of the server, page by page."""
    from prefect.events.schemas.automations import Automation

    found: list[Automation] = []
    while True:
        answer = client.request("POST", "/automations/filter", json={"offset": len(found), "limit": _PAGE})
        answer.raise_for_status()
        page = [Automation.model_validate(document) for document in answer.json()]
        found += page
        if len(page) < _PAGE:
            return found
