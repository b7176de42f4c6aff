-- A row under a new key.
\set n random(1, 1000000000000)
SELECT slotkeeper.idempotent_insert('bench.thing', jsonb_build_object('name', 'My Community ' || :n, 'owner', 'user-1', 'about', 'A place for people who like places, with rules that nobody reads.'), 'k-' || :n || '-' || :client_id, 'user-1');
