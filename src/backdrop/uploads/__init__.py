"""Uploads: a file is understood first, in a process of its own, and stored in a second step."""
