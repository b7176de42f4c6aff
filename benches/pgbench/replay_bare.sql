-- The look that it saves the application.
\set n random(1, :contents)
\set queue :first_queue + (:n - 1) % :queues
SELECT booking_id, scheduled_at FROM bench.bare WHERE content_id = 's-' || :n AND source = '' AND queue_id = :queue AND released_at IS NULL;
