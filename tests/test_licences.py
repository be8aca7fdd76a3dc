"""Every installed package may be used here, is on the page, and is in the bill of materials."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["licences"] = module
    spec.loader.exec_module(module)
    return module


def test_every_installed_package_may_be_used_and_is_on_the_page(licences: ModuleType) -> None:
    """Other benchmarks' packages may be installed beside; what is told of each is the same on every machine."""
    packages, lines = licences.installed(), licences.PAGE.read_text(encoding="utf-8").splitlines()
    assert not [package for package in packages if not package.admitted]
    pinned = {line.partition("==")[0].replace("_", "-").lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    listed = [package for package in packages if package.name in pinned]
    assert len(listed) > 50
    assert not [package for package in listed if f"| {package.name} | {package.licence} |" not in lines]


@pytest.mark.parametrize(
    ("licence", "admitted"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND (MIT OR BSD-3-Clause)", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-only", False),
        ("none said", False),
        ("", False),
    ],
)
def test_what_is_not_on_the_list_is_refused(licences: ModuleType, licence: str, admitted: bool) -> None:
    assert licences.Package("new", "1", licence, "").admitted is admitted


def test_the_bill_of_materials_has_every_package_once(licences: ModuleType, tmp_path: Path) -> None:
    licences.main(["--sbom", str(tmp_path / "sbom.json")])
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert [part["purl"] for part in bill["components"]] == [f"pkg:pypi/{one.name}@{one.version}" for one in licences.installed()]
    assert all(part["licenses"][0]["expression"] for part in bill["components"])
