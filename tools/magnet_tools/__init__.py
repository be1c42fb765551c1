"""MAGneT's agents and sessions as MCP tools, resources and prompts: arguments in, typed results out, no logic."""
