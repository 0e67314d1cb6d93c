"""How a process shows what it does: logs now; traces and metrics join them here."""
