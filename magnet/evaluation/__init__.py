"""Measuring sessions: diversity, audit, scales and their judge, comparison, statistics, report."""
