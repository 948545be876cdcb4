-- Answers queries: the map-filter-reduce language, and those that flume.query builds. See README.md.
return {version = 1, query = true}
