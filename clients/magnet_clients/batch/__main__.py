"""`python -m magnet_clients.batch` is `magnet-batch`."""

from magnet_clients.batch.main import main

raise SystemExit(main())
