"""The shared store: a MongoDB replica set, any number of processes.

engine.py      runs: hands each operation to its part
writing.py     the writes of records, in transactions
reading.py     the readings of records, in snapshots
entries.py     the entries
audit.py       the audit log, and transactions that note an act
connection.py  the client, and its guarantees
failures.py    the driver's errors: what each means, and what is said of it
catalogue.py   the documents of buckets and tokens, through which every write goes
shelves.py     the collections of records: made aside, put in place, removed late
restoring.py   making a bucket as it was elsewhere
documents.py   pure: buckets, tokens and records -> documents and back
tally.py       pure: what is known of a bucket's values without looking
pipeline.py    pure: Query -> lists of stages
periods.py     pure: the period of a record's time, as an expression
groups.py      pure: the rows of a grouping -> Groups
"""
