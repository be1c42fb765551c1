"""`python -m magnet_server` is `magnet-server`."""

from magnet_server.main import main

raise SystemExit(main())
