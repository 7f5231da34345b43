"""The words that begin the Series Description of every report, and by which reports are found."""

TITLE = "Rales report"
