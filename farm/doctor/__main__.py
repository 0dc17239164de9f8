"""`python -m farm.doctor`: the whole report; with the name of a probe, its finding as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from farm.doctor import print_report
from farm.doctor.libraries import probes


def main() -> int:
    if len(sys.argv) == 1:
        return print_report()
    print(json.dumps(asdict(probes()[sys.argv[1]]())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
