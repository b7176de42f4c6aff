-- One call to a queue with few bookings ahead, one to the queue with many, in turn. The short queue is another one
-- after every tenth call, looked at once beforehand so that no measured call is the connection's first there.
\set near 1 + :i / 10
\if :i % 10 = 0
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :near, 'tiktok', 'dry', p_dry_run => true);
\endif
\set i :i + 1
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :near, 'tiktok', 'c-' || nextval('bench.content'), 'user-1');
SELECT slotkeeper.assign_next_available_slot('far-1', 'tiktok', 'c-' || nextval('bench.content'), 'user-1');
