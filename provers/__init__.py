"""The worker: leases tasks, computes on encrypted records, proves, and hands in evidence. Trusted for nothing."""
