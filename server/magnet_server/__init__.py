"""Hosting the MCP server: over stdio for a local host, over HTTP for everyone else."""
