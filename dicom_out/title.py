"""The first words of the Series Description of every report; queries find reports by them."""

TITLE = "Rales report"
