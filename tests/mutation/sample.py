"""Every so-manieth mutant: `python -m tests.mutation.sample 4 extauthz.access.rbac` prints names for `mutmut run`.

Counted in each module by itself, in the order of the names as text, from the first one on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(every: str, *prefixes: str) -> None:
    """Print one name per line; mutmut must have made the mutants already."""
    for path in sorted(Path("mutants/extauthz").rglob("*.py.meta")):
        names = sorted(json.loads(path.read_text())["exit_code_by_key"])
        for name in names[:: int(every)]:
            if name.startswith(prefixes):
                print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
