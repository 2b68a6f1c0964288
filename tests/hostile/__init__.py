"""Clients that mean harm, against real servers."""
