-- A content gives its seat back and takes the next free one, by two calls. Each client has contents of its own.
\set n random(0, :contents / 64 - 1) * 64 + :client_id + 1
\set q (:n - 1) % :queues + 1
SELECT slotkeeper.unschedule_content('s-' || :n);
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :q, 'tiktok', 's-' || :n, 'user-1');
