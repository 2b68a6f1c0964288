"""The embedded store: one DuckDB file, one process.

engine.py     runs: opens the file, reads in snapshots, hands every write to the one writer
writer.py     the thread that writes: operations that wait together share one commit
catalogue.py  what the tables look like: buckets, and fields -> typed columns
columns.py    pure: records -> typed columns and back
sql.py        pure: Query -> (SQL, parameters)
known_ids.py  which ids are certainly new
"""
