"""`magnet-batch`: many sessions from a file of intakes, resumable, by way of a magnet-server."""
