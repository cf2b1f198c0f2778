"""State shared by the processes of one gate. Public: the protocol `Store` and its values."""

from xuna_middleware.stores.protocol import (
    Charge,
    Lease,
    LeaseStatus,
    MergeUsage,
    OverBudgetError,
    PendingSettlement,
    Quota,
    QuotaStatus,
    Region,
    ReserveResult,
    RevocationCheck,
    Store,
    StoreBusyError,
    StoreError,
)

__all__ = [
    "Charge",
    "Lease",
    "LeaseStatus",
    "MergeUsage",
    "OverBudgetError",
    "PendingSettlement",
    "Quota",
    "QuotaStatus",
    "Region",
    "ReserveResult",
    "RevocationCheck",
    "Store",
    "StoreBusyError",
    "StoreError",
]
