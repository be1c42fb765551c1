"""`python -m magnet_clients.reproduce`."""

from magnet_clients.reproduce.main import main

raise SystemExit(main())
