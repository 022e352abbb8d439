"""The store: content-addressed artifacts on a local folder or any fsspec URL.

    blobs/<hh>/<hash>.<safetensors|parquet|json>   named by their content, so written once and never changed
    blobs/<hh>/<hash>.<digest>.<...>               the same of a perturbed set: the artifact's own, to be dropped
    shared/<hh>/<hash>.<...>                       one more name of those that several artifacts have (see `space`)
    manifests/<dd>/<digest>.json                   what a finished job left; present = done, the only meaning of done
    sources/<digest>.py                            the text of user plug-ins, for workers
    failures/<digest>.json                         why a job failed last; cleared when it is published
    aside/<digest>-<n>.json                        manifests set aside because a blob did not have its hash

Algorithm: a writer writes each blob as it comes (memory of one shard), and the manifest last by one atomic step: on a
local folder temporary name, fsync, rename, fsync of the folder; on an object store one PUT. A crash leaves blobs that
nothing names, which `gc` removes.

Accepted trade-offs: there are no locks. Two drivers may do one job twice; both write the same bytes, and where the
work is not deterministic the first manifest stays. A disk budget is kept by each process from a listing and its own
count, so several workers together may pass it by what they write between two listings (a second, more in a big store).
"""

from testbed.store.manifest import Blob as Blob
from testbed.store.manifest import Manifest as Manifest
from testbed.store.space import StoreFull as StoreFull
from testbed.store.store import Failure as Failure
from testbed.store.store import Store as Store
from testbed.store.store import default_url as default_url
from testbed.store.writer import Writer as Writer
