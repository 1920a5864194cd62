"""Supply-chain audit: licences of what is installed, known vulnerabilities of what is shipped.

`audit.py PYTHON REQUIREMENTS`: PYTHON is the interpreter whose packages are looked at,
REQUIREMENTS the hash-locked list to ask the advisory database about. Exits 1 on a finding.
Where the database cannot be reached, or does not know a package, that is said loudly on
standard error, since a check that did not run must not look like one that passed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ALLOWED = (
    "Apache", "BSD", "MIT", "ISC", "PSF", "Python Software Foundation", "Mozilla Public License 2.0", "MPL-2.0",
    "Zlib", "The Unlicense", "CC0", "0BSD",
)  # fmt: skip
"""Parts of licence names that an Apache-2.0 project may depend on."""

SECONDS = 300


def main(python: str, requirements: str) -> int:
    """Return the exit code: 0 where nothing was found, 1 where something was."""
    found = licences(python) + vulnerabilities(requirements)
    for line in found:
        print(f"audit: {line}", file=sys.stderr)
    return 1 if found else 0


def licences(python: str) -> list[str]:
    """Return a sentence for each installed package under another licence than those that are allowed."""
    told = output("pip-licenses", "--python", python, "--format=json", "--from=mixed", "--ignore-packages", "extauthz")
    packages = json.loads(told)
    print(f"audit: licences of {len(packages)} packages read")
    return [
        f"{package['Name']} is under {package['License']!r}: may it be used? then add it to ALLOWED"
        for package in packages
        if not any(name in package["License"] for name in ALLOWED)
    ]


def vulnerabilities(requirements: str) -> list[str]:
    """Return a sentence for each known vulnerability; say so where nobody could be asked."""
    told = output("pip-audit", "-r", requirements, "--require-hashes", "--disable-pip", "-f", "json", "--timeout", "20")
    if not told:
        print("audit: VULNERABILITIES NOT CHECKED: the advisory database cannot be reached", file=sys.stderr)
        return []
    packages = json.loads(told)["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped:
        print(
            f"audit: VULNERABILITIES NOT CHECKED of {len(skipped)} of {len(packages)} packages: "
            "the package index here tells no advisories; run `make audit` where it does",
            file=sys.stderr,
        )
    return [
        f"{package['name']} {package['version']} has {flaw['id']}; fixed in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]


def output(tool: str, *arguments: str) -> str:
    """Return what a tool of this environment prints; its own failures show on standard error."""
    command = [str(Path(sys.executable).parent / tool), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=False).stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
