-- A row that takes a seat, at an instant that is free. Each client counts through granules of its own.
\set q random(1, :queues)
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
INSERT INTO post (profile, at, status, title) VALUES (:name || '-' || :q, to_timestamp(:granule * 60.0), 'scheduled', 'A title');
