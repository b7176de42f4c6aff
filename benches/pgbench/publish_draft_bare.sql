SELECT bench.publish(nextval('bench.draft_turn'), 'A title', 'A body of some length, as they have');
