-- Ten thousand rows that take seats, by one statement.
\set i :i + 1
\set granule :free_granule + :i * 10000
INSERT INTO post (profile, at, status, title) SELECT :name || '-' || n % :queues + 1, to_timestamp((:granule + n) * 60.0), 'scheduled', 'A title' FROM generate_series(1, 10000) AS n;
