"""Functions and models as files: packing, storing, finding, checking. The only room that imports aioboto3."""
