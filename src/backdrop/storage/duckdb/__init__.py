"""The embedded store: one DuckDB file, one process.

engine.py     runs: opens the file, reads in snapshots, hands every write to the one writer
opening.py    makes the file's tables, or finds that it understands them
writer.py     the thread that writes: operations that wait together share one commit
transaction.py one transaction of the writer: what it changes
state.py      what the file holds, read
catalogue.py  what the tables look like: buckets, and fields -> typed columns
columns.py    pure: records -> typed columns and back
sql.py        pure: Query -> (SQL, parameters)
known_ids.py  which ids are certainly new
"""
