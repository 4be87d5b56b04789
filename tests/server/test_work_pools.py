"""Templates of work pools: what Prefect makes of them, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import is_valid_schema, validate
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessWorker

from tests.server.conftest import ROOT

POOLS = ROOT / "deployments" / "work_pools"
SECRETS = ("AWS_", "PASSWORD", "SECRET", "AUTH_STRING", "TOKEN")


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((POOLS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def known_to_prefect() -> dict[str, Any]:
    """The template that Prefect itself has for Kubernetes."""
    path = Path(prefect.__path__[0]) / "server/api/collections_data/views/aggregate-worker-metadata.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["prefect-kubernetes"]["kubernetes"]
    return dict(found["default_base_job_configuration"])


def placeholders(value: object) -> set[str]:
    """Names of the variables that a template's job is made of."""
    return set(re.findall(r"{{\s*(\w+)\s*}}", json.dumps(value)))


@pytest.mark.parametrize("name", ["process", "kubernetes"])
def test_a_template_is_one_that_a_pool_may_have(name: str) -> None:
    said = template(name)
    is_valid_schema(said["variables"])
    assert WorkPoolCreate(name="plants", type=name, base_job_template=said).base_job_template == said
    assert placeholders(said["job_configuration"]) == set(said["variables"]["properties"])


def test_processes_run_as_in_the_pool_that_deploying_makes() -> None:
    assert template("process") == ProcessWorker.get_default_base_job_template()


def test_a_kubernetes_job_has_all_that_prefect_s_worker_reads_and_sets() -> None:
    ours, theirs = template("kubernetes"), known_to_prefect()
    assert set(ours["job_configuration"]) == set(theirs["job_configuration"])
    known = set(theirs["variables"]["properties"])
    # The same variables but for a limit of processors, which would only slow a run down, and the secret of ours.
    assert set(ours["variables"]["properties"]) == known - {"cpu_limit"} | {"secret_name"}
    for name, theirs_of_it in theirs["variables"]["properties"].items():
        if name in ours["variables"]["properties"]:
            assert ours["variables"]["properties"][name].get("type") == theirs_of_it.get("type"), name


def job(values: dict[str, Any]) -> dict[str, Any]:
    """The job that comes of the template."""
    said = template("kubernetes")
    variables = said["variables"]["properties"].items()
    defaults = {name: each["default"] for name, each in variables if "default" in each}
    found = apply_values(said["job_configuration"], defaults | values)
    return dict(found["job_manifest"])


def test_a_job_runs_once_without_rights_and_is_taken_away() -> None:
    spec = job({})["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 0)
    assert spec["ttlSecondsAfterFinished"] == 3600
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    dockerfile = (ROOT / "deployments" / "Dockerfile").read_text(encoding="utf-8")
    assert f"--uid {pod['securityContext']['runAsUser']} " in dockerfile


def test_a_job_takes_its_secrets_from_the_cluster() -> None:
    (container,) = job({"secret_name": "plants"})["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "plants"}}]
    said = template("kubernetes")["variables"]["properties"]["env"]["default"]
    assert not [name for name in said if any(word in name for word in SECRETS)]


def test_a_wrong_amount_is_refused() -> None:
    schema = template("kubernetes")["variables"]
    validate({"memory_limit": "8Gi"}, schema, raise_on_error=True)
    with pytest.raises(SchemaError):
        validate({"finished_job_ttl": "soon"}, schema, raise_on_error=True)
