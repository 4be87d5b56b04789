"""The folder of customers' YAML files: read it, write one, take one away.

`ALP_CUSTOMERS` names the folder, `./customers` by default. Nothing of it is in the store: it belongs into version
control, beside whoever deploys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from schemas.customers import Customer, read_customer
from schemas.errors import UsageError
from schemas.settings import Environment
from tasks import keys

_HEAD = """\
# A customer of ALP. Every key with its meaning stands in docs/customers.md; what is left out keeps its default.
# After a change: alp deploy
"""


def customers_folder(folder: Path | None = None) -> Path:
    """The folder that was asked for, else the one that `ALP_CUSTOMERS` names."""
    return folder if folder is not None else Path(Environment().customers)


def customer_path(name: str, folder: Path | None = None) -> Path:
    """Where a customer's file lies, if there is one.

    Raises
    ------
    UsageError
        The name is none that a customer can have.
    """
    return customers_folder(folder) / f"{keys.check_customer(name)}.yaml"


def find_customer(name: str, folder: Path | None = None) -> Customer | None:
    """The customer of that name; None where no file describes it.

    Raises
    ------
    UsageError
        The file is faulty; the message names every fault.
    """
    path = customer_path(name, folder)
    return read_customer(path) if path.is_file() else None


def require_customer_file(name: str, folder: Path | None = None) -> Customer:
    """The customer of that name.

    Raises
    ------
    UsageError
        No file describes it, or it is faulty.
    """
    customer = find_customer(name, folder)
    if customer is not None:
        return customer
    known = sorted(path.stem for path in customers_folder(folder).glob("*.yaml"))
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"write it with `alp customer add {name}`"
    raise UsageError(f"{customer_path(name, folder)}: no such file describes customer {name}; {hint}")


def load_customers(folder: Path | None = None) -> dict[str, Customer]:
    """Every customer by name, sorted.

    Raises
    ------
    UsageError
        There is no such folder, a file of it is faulty, or two customers share an inbox; a line for each fault.
    """
    home = customers_folder(folder)
    if not home.is_dir():
        raise UsageError(
            f"{home}: there is no such folder of customers; write a first one with `alp customer add NAME`, or set"
            " ALP_CUSTOMERS"
        )
    found: dict[str, Customer] = {}
    faults = [f"{path}: only files that end in .yaml are read; rename it" for path in sorted(home.glob("*.yml"))]
    for path in sorted(home.glob("*.yaml")):
        try:
            found[path.stem] = read_customer(path)
        except UsageError as error:
            faults.append(str(error))
    faults += _shared_inboxes(found.values(), home)
    if faults:
        raise UsageError("\n".join(faults))
    return found


def _shared_inboxes(customers: Iterable[Customer], home: Path) -> Iterator[str]:
    """Customers of whom one would onboard what was dropped for another."""
    inboxes = sorted((f"{customer.inbox_folder}/", customer.name) for customer in customers)
    for place, (inbox, name) in enumerate(inboxes):
        for other, owner in inboxes[place + 1 :]:
            if other.startswith(inbox):
                yield (
                    f"{home / owner}.yaml: inbox {other.rstrip('/')} lies in that of {name}, {inbox.rstrip('/')}, whose"
                    " flow would onboard it too; give them folders apart"
                )


def write_customer(customer: Customer, folder: Path | None = None) -> Path:
    """Write a new customer's file; what is as by default is left out.

    Raises
    ------
    UsageError
        There is one already, or the folder cannot be written.
    """
    path = customer_path(customer.name, folder)
    text = _HEAD + yaml.safe_dump(_document(customer), allow_unicode=True, sort_keys=False, width=120)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} describes customer {customer.name} already; edit it, then `alp deploy`") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); check the folder and the rights") from error
    return path


def _document(customer: Customer) -> dict[str, Any]:
    document = {"name": customer.name} | customer.model_dump(mode="json", exclude_defaults=True)
    if customer.machine_types:
        document["machine_types"] = {
            key: None if kind is None else kind.model_dump(mode="json", exclude={"id"}, exclude_defaults=True)
            for key, kind in customer.machine_types.items()
        }
    return document


def remove_customer_file(name: str, folder: Path | None = None) -> Path | None:
    """Delete a customer's file, read or not; where it lay, or None where there was none."""
    path = customer_path(name, folder)
    if not path.is_file():
        return None
    path.unlink()
    return path
