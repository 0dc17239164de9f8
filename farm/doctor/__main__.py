"""`python -m farm.doctor`: print the report, or as JSON the finding of the probe that is named."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

from farm.doctor import print_report
from farm.doctor.checks import how, probes


def main() -> int:
    """Run the program. Return its exit code."""
    if len(sys.argv) == 1:
        return print_report()
    finding = probes()[sys.argv[1]]()
    if finding.status == "missing" and not finding.how:
        finding = replace(finding, how=how(finding.name))
    print(json.dumps(asdict(finding)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
