"""`python -m magnet_clients.reproduce CONFIG.toml`: the paper's tables from one command and one config file."""
