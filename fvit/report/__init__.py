"""From rows to what is shown: figures, tables, verdicts. No network is ever seen here."""
