"""deployments/compose.yaml and what belongs to it, held against a schema of what it uses, and against rules of our own.

The schema is strict: a key that nobody thought of is refused, as a misspelt one would be taken in silence. Where there
is a client with compose, that reads the file too.
"""

from __future__ import annotations

import configparser
import importlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from deployments import s3_service
from tests.server.conftest import ROOT

FOLDER = ROOT / "deployments"
COMPOSE = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
SETTINGS = dict(re.findall(r"^(ALP_\w+)=(.*)$", (FOLDER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
SECRETS = {"ALP_S3_ACCESS_KEY", "ALP_S3_SECRET_KEY", "ALP_DATABASE_PASSWORD", "ALP_PREFECT_LOGIN"}
FILLED_IN = {"ALP_HOST": "alp.plant.example"} | {name: f"secret-of-{name.lower()}" for name in SECRETS}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:-|:\?)(?P<rest>[^}]*))?\}|(?P<wrong>\$)")
PINNED = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)*:\d+\.\d+(?:\.\d+)?(?:-[a-z]+)*")


# --- what compose makes of the file -----------------------------------------------------------------------------------


def interpolate(value: Any, settings: dict[str, str]) -> Any:
    """Put settings in the places of `${NAME}`, `${NAME:-default}` and `${NAME:?why}`, in every value, as compose does.

    KeyError: one that must be there is not.
    """
    if isinstance(value, dict):
        return {name: interpolate(each, settings) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, settings) for each in value]
    return fill_in(value, settings) if isinstance(value, str) else value


def fill_in(text: str, settings: dict[str, str]) -> str:
    """The same, in one text."""

    def value(found: re.Match[str]) -> str:
        assert not found["wrong"], "a bare $ is none of compose's"
        said = settings.get(found["name"], "")
        if found["how"] == ":-":
            return said or found["rest"]
        if found["how"] == ":?" and not said:
            raise KeyError(f"{found['name']}: {found['rest']}")
        return said

    return VARIABLE.sub(value, text)


def mapping(value: object) -> object:
    """A list of names, as `depends_on` and `networks` may have one, as a mapping."""
    return dict.fromkeys(value) if isinstance(value, list) else value


class Part(BaseModel):
    """Of the compose specification what this file uses."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Build(Part):
    context: str
    dockerfile: str
    args: dict[str, str]


class Healthcheck(Part):
    test: list[str] = Field(min_length=2)
    interval: str = Field(pattern=r"^\d+s$")
    timeout: str = Field(pattern=r"^\d+s$")
    retries: int = Field(ge=1)
    start_period: str = Field(pattern=r"^\d+s$")


class Dependency(Part):
    condition: Literal["service_healthy", "service_completed_successfully", "service_started"]


class Attachment(Part):
    aliases: list[str] = []


class Logging(Part):
    driver: Literal["json-file"]
    options: dict[str, str]


class Service(Part):
    image: str
    build: Build | None = None
    init: bool = False
    restart: Literal["no", "unless-stopped"]
    cap_drop: list[str] = []
    security_opt: list[str] = []
    logging: Logging
    profiles: list[str] = []
    user: str | None = None
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    working_dir: str | None = None
    environment: dict[str, str | None] = {}
    volumes: list[str] = []
    ports: list[str] = []
    networks: Annotated[dict[str, Attachment | None], BeforeValidator(mapping)]
    depends_on: dict[str, Dependency] = {}
    healthcheck: Healthcheck | None = None
    shm_size: str | None = None
    stop_grace_period: str | None = None
    deploy: dict[Literal["resources"], dict[Literal["limits"], dict[Literal["memory"], str]]] | None = None


class Network(Part):
    internal: bool = False


class Compose(Part):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: dict[str, dict[str, Any]]


def read(settings: dict[str, str]) -> Compose:
    document = interpolate(yaml.safe_load(COMPOSE), settings)
    return Compose.model_validate({key: value for key, value in document.items() if not key.startswith("x-")})


@pytest.fixture(scope="module")
def compose() -> Compose:
    """The file with `.env.example` filled in."""
    return read(SETTINGS | FILLED_IN)


def lasting(compose: Compose) -> dict[str, Service]:
    """Services that run for good."""
    return {name: each for name, each in compose.services.items() if each.restart != "no"}


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_misspelt_key_is_found() -> None:
    document = interpolate(yaml.safe_load(COMPOSE), SETTINGS | FILLED_IN)
    worker = document["services"]["worker"]
    worker["helthcheck"] = worker.pop("healthcheck")
    with pytest.raises(ValidationError, match="helthcheck"):
        Service.model_validate(worker)


def test_it_holds_the_four_services_of_a_server_and_the_commands(compose: Compose) -> None:
    assert set(lasting(compose)) == {"postgres", "s3", "prefect", "worker"}
    assert set(compose.services) - set(lasting(compose)) == {"bucket", "alp"}


@pytest.mark.parametrize("name", sorted({"ALP_HOST"} | SECRETS))
def test_what_must_be_filled_in_is_asked_for_by_name(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        read(SETTINGS | FILLED_IN | {name: ""})


def test_every_variable_stands_in_the_example_and_no_other() -> None:
    used = {found["name"] for found in VARIABLE.finditer(COMPOSE)}
    supervised = set(re.findall(r"%\(ENV_(\w+)\)s", (FOLDER / "supervisord.conf").read_text(encoding="utf-8")))
    assert used <= set(SETTINGS)
    assert supervised <= set(SETTINGS)
    assert set(SETTINGS) == used | supervised


def test_the_example_says_what_the_file_does_without_it(compose: Compose) -> None:
    assert read(FILLED_IN) == compose


def test_the_example_holds_no_secret() -> None:
    assert {name for name in SECRETS if SETTINGS[name]} == set()


def test_every_image_is_pinned(compose: Compose) -> None:
    images = [each.image for each in compose.services.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == len(compose.services) + 2
    assert [image for image in images if not PINNED.fullmatch(image)] == []


@pytest.mark.parametrize("image", ["postgres", "postgres:latest", "postgres:15", "alp:main"])
def test_an_image_that_may_change_is_none_that_is_pinned(image: str) -> None:
    assert not PINNED.fullmatch(image)


def test_what_runs_for_good_says_whether_it_is_well_and_is_started_again(compose: Compose) -> None:
    for name, each in lasting(compose).items():
        assert each.healthcheck is not None, name
        assert each.restart == "unless-stopped", name
        assert each.logging.options.keys() == {"max-size", "max-file"}, name


def test_nobody_waits_for_what_cannot_be(compose: Compose) -> None:
    for name, each in compose.services.items():
        for other, dependency in each.depends_on.items():
            waited_for = compose.services[other]
            if dependency.condition == "service_healthy":
                assert waited_for.healthcheck is not None, f"{name} waits for {other}"
            if dependency.condition == "service_completed_successfully":
                assert waited_for.restart == "no", f"{name} waits for {other}"


def test_volumes_and_networks_are_declared_and_used(compose: Compose) -> None:
    mounted = {volume.split(":")[0] for each in compose.services.values() for volume in each.volumes}
    assert {name for name in mounted if not name.startswith(".")} == set(compose.volumes)
    assert {name for each in compose.services.values() for name in each.networks} == set(compose.networks)


def test_what_is_published_asks_for_a_key_and_listens_where_the_settings_say(compose: Compose) -> None:
    published = {name: each.ports for name, each in compose.services.items() if each.ports}
    assert published == {"s3": ["127.0.0.1:9000:9000"], "prefect": ["127.0.0.1:4200:4200"]}


def test_only_prefect_reaches_the_database(compose: Compose) -> None:
    assert compose.networks["database"].internal
    assert {name for name, each in compose.services.items() if "database" in each.networks} == {"postgres", "prefect"}


def test_each_service_gets_the_secrets_it_needs_and_no_other(compose: Compose) -> None:
    s3, login, database = {"ALP_S3_ACCESS_KEY", "ALP_S3_SECRET_KEY"}, {"ALP_PREFECT_LOGIN"}, {"ALP_DATABASE_PASSWORD"}
    wanted = {
        "postgres": database,
        "prefect": database | login,
        "s3": s3,
        "bucket": s3,
        "worker": s3 | login,
        "alp": s3 | login,
    }
    got = {
        name: {secret for secret in SECRETS if FILLED_IN[secret] in str(each.environment)}
        for name, each in compose.services.items()
    }
    assert got == wanted
    for name, each in compose.services.items():
        told = str([each.command, each.entrypoint, each.healthcheck, each.ports, each.build, each.networks])
        assert not [secret for secret in SECRETS if FILLED_IN[secret] in told], f"{name} shows a secret"


def test_links_open_where_people_are(compose: Compose) -> None:
    """The store's address is one name inside and outside: a signed link holds for no other."""
    assert compose.services["worker"].environment["ALP_STORE"] == "s3://alp?endpoint=http://alp.plant.example:9000"
    attachment = compose.services["s3"].networks["services"]
    assert attachment is not None
    assert attachment.aliases == ["alp.plant.example"]
    other = read(SETTINGS | FILLED_IN | {"ALP_S3_PORT": "9100"})
    assert other.services["s3"].ports == ["127.0.0.1:9100:9100"]
    assert other.services["worker"].environment["ALP_STORE"] == "s3://alp?endpoint=http://alp.plant.example:9100"


def test_nothing_runs_as_root_or_with_rights(compose: Compose) -> None:
    for name, each in compose.services.items():
        assert (each.cap_drop, each.security_opt) == (["ALL"], ["no-new-privileges:true"]), name
    assert re.search(r"^USER alp$", DOCKERFILE, re.MULTILINE)
    assert compose.services["postgres"].user == "postgres", "its image says no user"


def test_no_registry_is_asked_for_our_own_image(compose: Compose) -> None:
    assert {name for name, each in compose.services.items() if each.build is None} == {"postgres"}
    assert len({each.image for each in compose.services.values()}) == 2


# --- what it starts ---------------------------------------------------------------------------------------------------


def test_the_s3_server_understands_its_command_line(compose: Compose) -> None:
    line = compose.services["s3"].command
    assert line is not None
    assert line[:3] == ["python", "-m", "deployments.s3_service"]
    options = s3_service.parse(line[3:])
    assert (str(options.folder), options.port, options.address) == ("/var/lib/alp/s3", 9000, "0.0.0.0")


@pytest.mark.parametrize("name", ["prefect", "worker"])
def test_prefect_knows_the_options(compose: Compose, name: str) -> None:
    line = compose.services[name].command
    assert line is not None
    assert line[0] == "prefect"
    source = Path(importlib.import_module(f"prefect.cli.{line[1]}").__file__ or "").read_text()
    options = {part.split("=")[0] for part in line if part.startswith("--")}
    assert {option for option in options if f'"{option}"' not in source} == set()


def test_prefect_knows_the_settings(compose: Compose) -> None:
    known = known_variables()
    said = {name for each in compose.services.values() for name in each.environment if name.startswith("PREFECT_")}
    # Those of its logs' handlers are none of its settings, but names of places in its logging.yml.
    assert {name for name in said - known if not name.startswith("PREFECT_LOGGING_HANDLERS_")} == set()


def known_variables() -> set[str]:
    """Names of the variables by which Prefect is set up, older ones included."""
    from prefect.settings.legacy import _get_valid_setting_names
    from prefect.settings.models.root import Settings

    return set(_get_valid_setting_names(Settings))


def supervised(program: str) -> dict[str, str]:
    """The environment that supervisord.conf gives a program, `.env.example` filled in."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=None)
    parser.read(FOLDER / "supervisord.conf", encoding="utf-8")
    text = re.sub(
        r"%\(ENV_(\w+)\)s", lambda found: (SETTINGS | FILLED_IN)[found[1]], parser[f"program:{program}"]["environment"]
    )
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


@pytest.mark.parametrize("program", ["s3", "prefect", "worker"])
def test_supervisor_gives_up_nothing_that_a_night_without_a_database_ended(program: str) -> None:
    """It waits a second longer before each try, and after so many of them for good."""
    parser = configparser.RawConfigParser()
    parser.read(FOLDER / "supervisord.conf", encoding="utf-8")
    tries = parser.getint(f"program:{program}", "startretries")
    assert tries * (tries + 1) / 2 > 365 * 86_400


@pytest.mark.parametrize("program", ["s3", "prefect", "worker"])
def test_with_and_without_containers_services_are_set_up_alike(compose: Compose, program: str) -> None:
    """But for where the others are, and the folders of the machine; and supervisor hands on what .env says besides."""
    places = {"PREFECT_SERVER_DATABASE_HOST", "PREFECT_API_URL", "PREFECT_HOME", "NO_COLOR", "ALP_CACHE"}
    with_containers = {
        name: value for name, value in compose.services[program].environment.items() if value is not None
    }
    without = supervised(program)
    for each in (with_containers, without):
        for name in places & set(each):
            del each[name]
    assert without == with_containers


def test_what_the_example_names_besides_is_handed_on(compose: Compose) -> None:
    text = (FOLDER / ".env.example").read_text(encoding="utf-8")
    besides = set(re.findall(r"^# ([A-Z_]+)=\S+$", text, re.MULTILINE))
    handed_on = {
        name for each in compose.services.values() for name, value in each.environment.items() if value is None
    }
    assert besides == handed_on


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_is_made_of_the_pinned_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (torch,) = (line for line in project["project"]["dependencies"] if line.startswith("torch=="))
    assert re.search(rf"{re.escape(torch)}$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.count("install -c constraints.txt") == 3
    assert f"alp:{project['project']['version']}" == SETTINGS["ALP_IMAGE"]
    (constraints,) = re.findall(r"for Python (3\.\d+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert set(re.findall(r"^FROM \S+/python:(3\.\d+)", DOCKERFILE, re.MULTILINE)) == {constraints}
    extras = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)[0].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])


def test_the_image_holds_all_that_building_needs_and_no_secrets() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml", "prefect.yaml"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"}
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == needed == {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert ignored.index("deployments/.env") > ignored.index("!deployments")


def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no docker with compose on this machine")
    settings = tmp_path / ".env"
    settings.write_text("".join(f"{name}={value}\n" for name, value in (SETTINGS | FILLED_IN).items()))
    done = subprocess.run(
        [docker, "compose", "-f", FOLDER / "compose.yaml", "--env-file", settings, "--profile", "commands", "config"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"postgres", "s3", "bucket", "prefect", "worker", "alp"}
