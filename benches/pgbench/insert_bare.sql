-- The same row by hand. Each client counts through granules of its own, so that none is met twice.
\set queue :first_queue + random(1, :queues) - 1
\set i :i + 1
\set granule :free_granule + :i * 64 + :client_id
INSERT INTO bench.bare (queue_id, granule, seat, source, content_id, user_id, scheduled_at, booked_at) VALUES (:queue, :granule, 0, '', 'c-' || nextval('bench.content'), 'user-1', to_timestamp(:granule * 60.0), clock_timestamp()) RETURNING booking_id, scheduled_at;
