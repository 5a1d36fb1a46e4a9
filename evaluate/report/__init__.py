"""The report of an evaluation: figures, sentences, tables, plots and the page."""
