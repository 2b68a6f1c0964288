"""The embedded store: one DuckDB file, one process.

engine.py     runs: opens the file, reads in snapshots, hands every write to the one writer
guard.py      opens the file only if it is whole, and notes each commit
commit_log.py the file beside the store in which they are noted
repair.py     saves what can be read of a damaged file
repairing.py  what a repair keeps beside the store until it is done
opening.py    makes the file's tables, or finds that it understands them
writer.py     the thread that writes: operations that wait together share one commit
transaction.py one transaction of the writer: what it changes
state.py      what the file holds, read
catalogue.py  what the tables look like: buckets, and fields -> typed columns
columns.py    pure: records -> typed columns and back
before.py     what is asked of the file before the question itself
sql.py        pure: Query -> (SQL, parameters)
inserts.py    Arrow columns -> rows at a table's end
known_ids.py  which ids are certainly new
"""
