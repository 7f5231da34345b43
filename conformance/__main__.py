"""``python -m conformance --out FILE`` writes the conformance statement."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.document import statement, values
from conformance.samples import make_samples

parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
parser.add_argument("--out", type=Path, required=True)
parser.parse_args().out.write_text(statement(values(tuple(make_samples()))), encoding="utf-8")
