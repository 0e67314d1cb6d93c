"""Work beside the request path: the archive of final results, retries, batches, models without workers."""
