"""Judge what was found before a start: facts in, findings out. Synchronous and pure; `krakenbot doctor` gathers."""
