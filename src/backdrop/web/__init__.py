"""The pages for people: signing in, one's buckets, and the upload of a spreadsheet."""
