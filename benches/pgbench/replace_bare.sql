-- The same two changes by hand.
\set n random(0, :contents / 64 - 1) * 64 + :client_id + 1
\set queue :first_queue + (:n - 1) % :queues
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
UPDATE bench.bare SET released_at = clock_timestamp(), released_by = current_user WHERE content_id = 's-' || :n AND source = '' AND queue_id = :queue AND released_at IS NULL RETURNING booking_id, scheduled_at;
INSERT INTO bench.bare (queue_id, granule, seat, source, content_id, user_id, scheduled_at, booked_at) VALUES (:queue, :granule, 0, '', 's-' || :n, 'user-1', to_timestamp(:granule * 60.0), clock_timestamp()) RETURNING booking_id, scheduled_at;
