-- As ahead.sql, but the call to the queue with many bookings starts in the middle of them.
\set near 1 + :i / 10
\if :i % 10 = 0
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :near, 'tiktok', 'dry', p_dry_run => true);
\endif
\set i :i + 1
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :near, 'tiktok', 'c-' || nextval('bench.content'), 'user-1');
SELECT slotkeeper.assign_next_available_slot('far-1', 'tiktok', 'c-' || nextval('bench.content'), 'user-1', p_not_before => to_timestamp(:middle * 60.0));
