"""The paper's experiments as rows: what runs on what, in blocks that can be resumed and spread."""
