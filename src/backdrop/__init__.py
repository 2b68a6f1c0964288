"""Backdrop: a datastore with an HTTP interface. POST flat JSON records, GET answers."""

__version__ = "0.1.0"
