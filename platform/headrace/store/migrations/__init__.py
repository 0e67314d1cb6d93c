"""How the tables became what `store.schema` says; run by `store.upgrade`."""
