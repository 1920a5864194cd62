"""A test API server that speaks Kubernetes' wire, with faults and an informer lag under the test's control.

`Double` is the server; `tests.apiserver.real` starts a real kube-apiserver with the same
surface (`Cluster`), so that one test can run against both.
"""

from tests.apiserver.cluster import Cluster
from tests.apiserver.double import Double
from tests.apiserver.faults import Gate, answer, hang, hold, reset
from tests.apiserver.tokens import Account

__all__ = ["Account", "Cluster", "Double", "Gate", "answer", "hang", "hold", "reset"]
