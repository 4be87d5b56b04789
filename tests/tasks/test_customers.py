"""The folder of customers' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.customers import Customer
from schemas.errors import UsageError
from tasks.customers import (
    find_customer,
    load_customers,
    remove_customer_file,
    require_customer_file,
    write_customer,
)


def customer(**said: object) -> Customer:
    return Customer.model_validate(said)


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    plain = customer(name="plain")
    full = customer(
        name="full",
        time_zone="Asia/Seoul",
        schedule={"onboard": "0 6 * * *", "monitor": None},
        machine_types={"fan": None, "mixer": {"en": "mixer", "ko": "믹서", "aliases": ["blender"]}},
        share_source=True,
        retention={"recordings_days": 30},
        contacts=({"name": "Kim", "phone": "010"},),
        alarm={"clips_per_day": 288},
    )
    folder = tmp_path / "customers"
    assert write_customer(plain, folder) == folder / "plain.yaml"
    write_customer(full, folder)
    assert load_customers(folder) == {"full": full, "plain": plain}
    assert "clips_per_day: 288" in (folder / "full.yaml").read_text(encoding="utf-8")
    assert "language" not in (folder / "plain.yaml").read_text(encoding="utf-8"), "a default is not written down"


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    write_customer(customer(name="acme", seed=1), tmp_path)
    with pytest.raises(UsageError, match=r"acme\.yaml describes customer acme already"):
        write_customer(customer(name="acme"), tmp_path)
    assert require_customer_file("acme", tmp_path).seed == 1


def test_faults_of_every_file_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nseed: -1\n", encoding="utf-8")
    (tmp_path / "two.yaml").write_text("name: too\n", encoding="utf-8")
    (tmp_path / "three.yml").write_text("name: three\n", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_customers(tmp_path)
    said = str(refused.value).splitlines()
    assert ["three.yml: only files" in said[0], "one.yaml, line 2" in said[1], "two.yaml, line 1" in said[2]] == [
        True
    ] * 3


def test_an_inbox_belongs_to_one_customer(tmp_path: Path) -> None:
    write_customer(customer(name="acme"), tmp_path)
    write_customer(customer(name="acme-2"), tmp_path)
    assert set(load_customers(tmp_path)) == {"acme", "acme-2"}
    write_customer(customer(name="branch", inbox="inbox/acme/branch"), tmp_path)
    with pytest.raises(UsageError, match=r"branch\.yaml: inbox inbox/acme/branch lies in that of acme"):
        load_customers(tmp_path)


def test_no_folder_is_told_from_an_empty_one(tmp_path: Path) -> None:
    assert load_customers(tmp_path) == {}
    with pytest.raises(UsageError, match="no such folder of customers"):
        load_customers(tmp_path / "nowhere")
    assert find_customer("acme", tmp_path / "nowhere") is None


def test_a_customer_without_a_file_is_told_those_that_are_spelt_alike(tmp_path: Path) -> None:
    write_customer(customer(name="acme-ulsan"), tmp_path)
    with pytest.raises(UsageError, match="did you mean acme-ulsan"):
        require_customer_file("acme-ulsam", tmp_path)
    with pytest.raises(UsageError, match="alp customer add zenith"):
        require_customer_file("zenith", tmp_path)
    with pytest.raises(UsageError, match="cannot be used as a name"):
        find_customer("../acme", tmp_path)


def test_a_faulty_file_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("seed: -1\n", encoding="utf-8")
    assert remove_customer_file("acme", tmp_path) == tmp_path / "acme.yaml"
    assert remove_customer_file("acme", tmp_path) is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALP_CUSTOMERS", str(tmp_path))
    write_customer(customer(name="acme"))
    assert find_customer("acme") == customer(name="acme")
    assert (tmp_path / "acme.yaml").is_file()
