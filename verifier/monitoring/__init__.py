"""Follows the chain's contracts over time, as monitors of certificate transparency follow logs (RFC 6962 §5.3)."""
