"""HTTP to others: webhooks. The only room that calls addresses which callers name."""
