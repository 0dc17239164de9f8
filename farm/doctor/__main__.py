"""`python -m farm.doctor`: the whole report; with the name of a probe, its finding as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

from farm.doctor import print_report
from farm.doctor.how import how
from farm.doctor.libraries import probes


def main() -> int:
    if len(sys.argv) == 1:
        return print_report()
    finding = probes()[sys.argv[1]]()
    if finding.status == "missing" and not finding.how:
        finding = replace(finding, how=how(finding.name))
    print(json.dumps(asdict(finding)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
