"""Work beside the request path: the archive, the index of jobs, retries, batches, webhooks."""
