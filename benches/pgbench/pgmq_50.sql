SELECT array_agg(msg_id)::text AS m FROM pgmq.read('q', 600, 50) \gset
SELECT count(*) FROM pgmq.archive('q', :m::bigint[]);
