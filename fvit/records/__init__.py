"""What a run leaves on disk: rows, claims, their ledger, and where they came from. No torch, no matplotlib."""
