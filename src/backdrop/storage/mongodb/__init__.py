"""The shared store: a MongoDB replica set, any number of processes.

engine.py      runs: reads in snapshots, writes in transactions
connection.py  the client, its guarantees, and its errors
catalogue.py   the documents of buckets and tokens, through which every write goes
shelves.py     the collections of records: made aside, put in place, removed late
restoring.py   making a bucket as it was elsewhere
documents.py   pure: buckets, tokens and records -> documents and back
pipeline.py    pure: Query -> lists of stages
groups.py      pure: the rows of a grouping -> Groups
"""
