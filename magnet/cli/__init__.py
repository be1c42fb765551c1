"""The `magnet` command: one module per group of commands, each with a `register` that `main` lists."""
