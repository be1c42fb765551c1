"""MCP clients of a magnet-server: the batch client and the reference coordinator. They know it by its tools alone."""
