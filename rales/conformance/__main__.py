"""``python -m rales.conformance`` prints the conformance statement."""

from __future__ import annotations

import sys

from rales.conformance.document import statement

sys.stdout.write(statement())
