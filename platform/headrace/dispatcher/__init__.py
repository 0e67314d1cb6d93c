"""Work beside the request path: the archive of final results, the index of jobs, retries."""
