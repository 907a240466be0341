"""Files for schemathesis to send where a route takes files: some are one, some are not."""

import schemathesis
from hypothesis import strategies as st

FILES = {
    "text/csv": b"a,b\n1,x\n2,y\n",
    "application/x-ndjson": b'{"a": 1, "b": "x"}\n{"a": 2}\n',
    "application/vnd.apache.parquet": b"PAR1",
    "application/zip": b"PK\x03\x04",
}

for media_type, whole in FILES.items():
    schemathesis.openapi.media_type(media_type, st.just(whole) | st.binary(max_size=100))
