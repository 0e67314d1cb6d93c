"""The worker: take, run, reply, complete, commit. One process, one model version, one engine."""
