-- A content that is booked moves to a free instant. Each client has contents of its own.
\set n random(0, :contents / 64 - 1) * 64 + :client_id + 1
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
SELECT slotkeeper.reschedule_content('s-' || :n, to_timestamp(:granule * 60.0));
