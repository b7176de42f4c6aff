-- A new content at a free instant of the caller's choice.
\set q random(1, :queues)
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
SELECT slotkeeper.schedule_content(:name || '-' || :q, 'tiktok', 'c-' || nextval('bench.content'), to_timestamp(:granule * 60.0), 'user-1');
