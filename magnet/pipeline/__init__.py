"""The pipeline: methods, one turn, one session, many sessions."""
