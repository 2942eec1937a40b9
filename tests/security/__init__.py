"""One test or more for each claim of docs/security.md."""
