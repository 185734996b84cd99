"""Lets Schemathesis send JSON lines."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
