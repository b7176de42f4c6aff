-- One content to the next free slot of one of the queues.
\set q random(1, :queues)
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :q, 'tiktok', 'c-' || nextval('bench.content'), 'user-1');
