"""HTTP routes, one module a subject: each turns a request into one call, and its result into a response."""
