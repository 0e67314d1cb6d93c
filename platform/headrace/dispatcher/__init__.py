"""Work beside the request path: today the archive of final results; retries and jobs will live here."""
