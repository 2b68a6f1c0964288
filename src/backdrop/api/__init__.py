"""HTTP: routes and handlers, bytes to raw rows, a query string to a Query, answers to bytes."""
