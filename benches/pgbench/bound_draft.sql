-- A row that takes none.
\set q random(1, :queues)
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
INSERT INTO post (profile, at, status, title) VALUES (:name || '-' || :q, to_timestamp(:granule * 60.0), 'draft', 'A title');
