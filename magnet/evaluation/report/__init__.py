"""The report of one or several runs: figures gathered once, shown as HTML, JSON, CSV and Markdown."""
