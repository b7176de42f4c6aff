-- A retried call: the content is booked already.
\set n random(1, :contents)
\set q (:n - 1) % :queues + 1
SELECT slotkeeper.assign_next_available_slot(:name || '-' || :q, 'tiktok', 's-' || :n, 'user-1');
