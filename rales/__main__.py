"""``python -m rales`` is ``rales``."""

from rales.cli import main

main()
