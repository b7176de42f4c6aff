-- The same change of the same row by hand.
\set n random(0, :contents / 64 - 1) * 64 + :client_id + 1
\set queue :first_queue + (:n - 1) % :queues
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
UPDATE bench.bare SET granule = :granule, seat = 0, scheduled_at = to_timestamp(:granule * 60.0), slot_ref = NULL WHERE content_id = 's-' || :n AND source = '' AND queue_id = :queue AND released_at IS NULL RETURNING booking_id, scheduled_at;
