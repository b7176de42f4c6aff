SELECT msg_id AS m FROM pgmq.read('q', 600, 1) \gset
SELECT pgmq.archive('q', :m::bigint);
